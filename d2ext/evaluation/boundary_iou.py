"""Boundary IoU, which large masks with coarse outlines do not satisfy, and mask AP by it.

Source: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", 2021,
arXiv:2103.16562; a match needs the smaller of mask IoU and boundary IoU.
"""

import contextlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from d2ext.data.detection_files import read_detections
from d2ext.evaluation.truth import index_truth
from detectron2.evaluation import COCOEvaluator

DILATION_RATIO = 0.02  # width of the boundary as a share of the image's diagonal, as published
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class BoundaryIoUEvaluator(COCOEvaluator):
    """COCO's evaluator, with "boundary" in addition to "segm": the same metrics by boundary IoU.

    Args:
        dataset_name: a registered data set.
        folder: where the results are written.
        options: those of `COCOEvaluator`.
    """

    def __init__(self, dataset_name: str, folder: str, **options: Any) -> None:
        super().__init__(dataset_name, output_dir=folder, **options)
        self.results_file = Path(folder, "coco_instances_results.json")

    def evaluate(self, img_ids: Any = None) -> dict[str, Any]:
        results = super().evaluate(img_ids)
        if results and "segm" in results:
            found = read_detections(self.results_file)
            results["boundary"] = boundary_average_precision(self._metadata.json_file, found)
        return results


def boundary_average_precision(json_file: str, results: list[dict]) -> dict[str, float]:
    """Return COCO's metrics in percent by boundary IoU.

    Args:
        json_file: a COCO file with masks.
        results: detections with masks in COCO's results format; not empty.
    Raises:
        DataError: the file cannot be measured with; see `d2ext.evaluation.truth`.
    """
    truth = index_truth(COCO(), json_file)
    with contextlib.redirect_stdout(io.StringIO()):
        # Areas of the masks, not of the boxes, choose small, medium and large.
        detections = [{k: v for k, v in item.items() if k != "bbox"} for item in results]
        evaluation = BoundaryCOCOeval(truth, truth.loadRes(detections), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = (100 * evaluation.stats[: len(METRICS)]).tolist()
    return {
        name: value if value >= 0 else math.nan for name, value in zip(METRICS, stats, strict=True)
    }


class BoundaryCOCOeval(COCOeval):
    """pycocotools' evaluation of masks, whose IoU is the smaller of mask and boundary IoU."""

    def computeIoU(self, imgId: int, catId: int) -> Any:
        overlaps = super().computeIoU(imgId, catId)
        if not len(overlaps):
            return overlaps
        truth, found = self._gts[imgId, catId], self._dts[imgId, catId]
        order = np.argsort([-item["score"] for item in found], kind="mergesort")
        kept = [found[position] for position in order[: self.params.maxDets[-1]]]
        own, wanted = ([self._boundary(item) for item in items] for items in (kept, truth))
        crowd = [int(item["iscrowd"]) for item in truth]
        return np.minimum(overlaps, coco_mask.iou(own, wanted, crowd))

    def _boundary(self, item: dict) -> Any:
        # Truth may be polygons; detections are run lengths.
        mask = (self.cocoGt if "score" not in item else self.cocoDt).annToMask(item)
        return coco_mask.encode(np.asfortranarray(mask_boundary(mask)))


def mask_boundary(mask: NDArray[np.uint8], ratio: float = DILATION_RATIO) -> NDArray[np.uint8]:
    """Return the pixels of an (H, W) mask that are near its outline or the border of the image.

    Args:
        mask: 0 or 1.
        ratio: width of the boundary as a share of the image's diagonal; at least one pixel.
    """
    width = boundary_width(mask.shape, ratio)
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask ^ np.asarray(inner, dtype=np.uint8)


def boundary_width(size: Sequence[int], ratio: float = DILATION_RATIO) -> int:
    """Return the width in pixels of boundaries in an image of `size`, its height and width."""
    return max(1, round(ratio * math.hypot(*size)))


def segment_boundaries(positions: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Find the pixels of segments that are near another segment or the border of the image.

    Args:
        positions: (H, W) number of the segment of each pixel.
    """
    window = np.ones(2 * [2 * boundary_width(positions.shape) + 1], np.uint8)
    values = positions.astype(np.float32)  # exact below 2 ** 24
    padded = cv2.copyMakeBorder(values, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=-1)
    least, most = np.asarray(cv2.erode(padded, window)), np.asarray(cv2.dilate(padded, window))
    return np.asarray((least != padded) | (most != padded))[1:-1, 1:-1]
