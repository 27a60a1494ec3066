"""Metrics of semantic segmentation: IoU, accuracy and boundary IoU."""

import itertools
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
import torch
from numpy.typing import DTypeLike
from PIL import Image

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.comm import all_gather, is_main_process, synchronize
from detectron2.utils.file_io import PathManager

from .evaluator import DatasetEvaluator

__all__ = ["SemSegEvaluator", "load_image_into_numpy_array"]

logger = logging.getLogger(__name__)


def load_image_into_numpy_array(filename: str, dtype: DTypeLike | None = None) -> np.ndarray:
    """Read (H, W) labels from an image file."""
    with PathManager.open(filename, "rb") as file:
        return np.array(Image.open(file), dtype=dtype)


class SemSegEvaluator(DatasetEvaluator):
    """mIoU, frequency-weighted IoU, mean and pixel accuracy in percent, also per class.

    `evaluate` returns {"sem_seg": {"mIoU": ..., "IoU-<class>": ..., "BoundaryIoU-<class>": ...}}.
    Sources: http://cocodataset.org/#stuff-eval; Cheng et al. 2021, "Boundary IoU",
    arXiv:2103.16562.

    Args:
        dataset_name: its images have "sem_seg_file_name"; its metadata "stuff_classes" and maybe
            "ignore_label" and "stuff_dataset_id_to_contiguous_id".
        distributed: collect the predictions of all processes and evaluate in the first one.
        output_dir: folder for "sem_seg_predictions.json" (COCO's format) and
            "sem_seg_evaluation.pth"; None writes neither.
        sem_seg_loading_fn: maps a file name and `dtype` to (H, W) labels.
        num_classes, ignore_label: deprecated; the metadata has them.
    """

    def __init__(
        self,
        dataset_name: str,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        sem_seg_loading_fn: Callable[..., np.ndarray] = load_image_into_numpy_array,
        num_classes: int | None = None,
        ignore_label: int | None = None,
    ) -> None:
        meta = MetadataCatalog.get(dataset_name)
        self._logger = logger
        if num_classes is not None or ignore_label is not None:
            logger.warning("SemSegEvaluator takes num_classes and ignore_label from the metadata.")
        self._dataset_name = dataset_name
        self._distributed = distributed
        self._output_dir = output_dir
        self._cpu_device = torch.device("cpu")
        self._class_names = meta.stuff_classes
        self._num_classes = len(meta.stuff_classes)
        if num_classes not in (None, self._num_classes):
            raise AssertionError(
                f"num_classes is {num_classes}, but {dataset_name} has {self._num_classes}."
            )
        self._ignore_label = meta.get("ignore_label") if ignore_label is None else ignore_label
        self._contiguous_id_to_dataset_id = _inverse(meta)
        # OpenCV erodes uint8 labels.
        self._compute_boundary_iou = self._num_classes < np.iinfo(np.uint8).max
        self.input_file_to_gt_file = {
            image["file_name"]: image["sem_seg_file_name"]
            for image in DatasetCatalog.get(dataset_name)
        }
        self.sem_seg_loading_fn = sem_seg_loading_fn
        self.reset()

    def reset(self) -> None:
        # (predicted, annotated) pixels; the last row and column are unlabelled.
        size = (self._num_classes + 1, self._num_classes + 1)
        self._conf_matrix = np.zeros(size, dtype=np.int64)
        self._b_conf_matrix = np.zeros(size, dtype=np.int64)
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Add the predictions of a batch.

        Args:
            inputs: dicts with "file_name".
            outputs: dicts with "sem_seg", (classes, H, W) scores in the size of the label image.
        """
        for image, output in zip(inputs, outputs, strict=True):
            predicted = output["sem_seg"].argmax(dim=0).to(self._cpu_device).numpy().astype(int)
            truth_file = self.input_file_to_gt_file[image["file_name"]]
            truth = self.sem_seg_loading_fn(truth_file, dtype=int)
            truth[truth == self._ignore_label] = self._num_classes
            self._conf_matrix += self._count(predicted, truth)
            if self._compute_boundary_iou:
                borders = (self._mask_to_boundary(m.astype(np.uint8)) for m in (predicted, truth))
                self._b_conf_matrix += self._count(*borders)
            self._predictions.extend(self.encode_json_sem_seg(predicted, image["file_name"]))

    def _count(self, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
        side = self._num_classes + 1
        pairs = side * predicted.reshape(-1).astype(np.int64) + truth.reshape(-1)
        return np.bincount(pairs, minlength=side**2).reshape(side, side)

    def evaluate(self) -> OrderedDict | None:
        """Return the metrics of what was processed; None in processes other than the first."""
        if self._distributed and not self._gather():
            return None
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            self._write("sem_seg_predictions.json", json.dumps(self._predictions).encode())
        metrics = self._metrics()
        if self._output_dir:
            with PathManager.open(
                os.path.join(self._output_dir, "sem_seg_evaluation.pth"), "wb"
            ) as file:
                torch.save(metrics, file)
        results = OrderedDict({"sem_seg": metrics})
        self._logger.info(results)
        return results

    def _gather(self) -> bool:
        """Gather from all processes; return whether this one evaluates."""
        synchronize()
        matrices = all_gather(self._conf_matrix), all_gather(self._b_conf_matrix)
        predictions = all_gather(self._predictions)
        if not is_main_process():
            return False
        self._conf_matrix, self._b_conf_matrix = (sum(found) for found in matrices)
        self._predictions = list(itertools.chain(*predictions))
        return True

    def _write(self, name: str, content: bytes) -> None:
        with PathManager.open(os.path.join(str(self._output_dir), name), "wb") as file:
            file.write(content)

    def _metrics(self) -> dict[str, float]:
        truth = self._conf_matrix[:-1, :-1].sum(axis=0).astype(float)
        hits, union = _hits_and_union(self._conf_matrix)
        accuracy, iou = _ratio(hits, truth), _ratio(hits, union)
        iou[truth == 0] = np.nan
        border_iou = _ratio(*_hits_and_union(self._b_conf_matrix))
        metrics: dict[str, Any] = {
            "mIoU": np.sum(iou[truth > 0]) / np.sum((truth > 0) & (union > 0)),
            "fwIoU": np.sum(iou[truth > 0] * truth[truth > 0] / truth.sum()),
        }
        for index, name in enumerate(self._class_names):
            metrics[f"IoU-{name}"] = iou[index]
            if self._compute_boundary_iou:
                metrics[f"BoundaryIoU-{name}"] = border_iou[index]
                metrics[f"min(IoU, B-Iou)-{name}"] = np.minimum(iou[index], border_iou[index])
        metrics["mACC"] = np.mean(accuracy[truth > 0])
        metrics["pACC"] = hits.sum() / truth.sum()
        for index, name in enumerate(self._class_names):
            metrics[f"ACC-{name}"] = accuracy[index]
        return {name: 100 * value for name, value in metrics.items()}

    def encode_json_sem_seg(self, sem_seg: np.ndarray, input_file_name: str) -> list[dict]:
        """Encode (H, W) predicted classes in COCO's results format: one RLE per class.

        Source: http://cocodataset.org/#format-results
        """
        return [
            {
                "file_name": input_file_name,
                "category_id": self._original_category(int(label)),
                "segmentation": _encode(sem_seg == label),
            }
            for label in np.unique(sem_seg)
        ]

    def _original_category(self, label: int) -> int:
        if self._contiguous_id_to_dataset_id is None:
            return label
        if label not in self._contiguous_id_to_dataset_id:
            raise AssertionError(f"Label {label} is not in the metadata of {self._dataset_name}.")
        return self._contiguous_id_to_dataset_id[label]

    def _mask_to_boundary(self, mask: np.ndarray, dilation_ratio: float = 0.02) -> np.ndarray:
        """Return (H, W) uint8 without the interior, by an erosion of a fraction of the diagonal."""
        if mask.ndim != 2:
            raise AssertionError(f"expected (H, W), got {mask.shape}")
        steps = max(1, int(dilation_ratio * np.hypot(*mask.shape)))
        # Padded, so that segments at the border of the image have a boundary there.
        padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        eroded = cv2.erode(padded, np.ones((3, 3), dtype=np.uint8), iterations=steps)
        return mask - eroded[1:-1, 1:-1]


def _inverse(meta: Any) -> dict[int, int] | None:
    """Map contiguous labels to the dataset's categories; None if these are the same."""
    to_contiguous = meta.get("stuff_dataset_id_to_contiguous_id")
    if to_contiguous is None:
        return None
    return {contiguous: category for category, contiguous in to_contiguous.items()}


def _hits_and_union(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count per class the pixels of the intersection and the union, unlabelled ones excluded."""
    known = matrix[:-1, :-1].astype(float)
    hits = known.diagonal()
    return hits, known.sum(axis=0) + known.sum(axis=1) - hits


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with NaN where `whole` is 0."""
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _encode(mask: np.ndarray) -> dict[str, Any]:
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {**rle, "counts": rle["counts"].decode("utf-8")}  # JSON has no bytes
