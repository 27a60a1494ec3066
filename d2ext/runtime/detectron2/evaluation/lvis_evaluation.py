"""LVIS's metrics of boxes and masks.

Source: Gupta et al. 2019, "LVIS", arXiv:1908.03195, section 3: a category is evaluated in the
images where it is known to be present or absent, and unmatched detections do not count in images
where it is not annotated exhaustively.
"""

import contextlib
import io
import itertools
import logging
from collections.abc import Sequence
from typing import Any

import faster_coco_eval
import numpy as np
import torch
from pycocotools.coco import COCO

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table

from .coco_evaluation import COCOEvaluator, _load_coco

__all__ = ["LVISEvaluator"]

logger = logging.getLogger(__name__)

_MAX_DETECTIONS = 300
_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")


class LVISEvaluator(COCOEvaluator):
    """LVIS's AP in percent of boxes and masks, also for rare, common and frequent categories.

    `evaluate` returns {"bbox": {"AP": ..., "APr": ..., "APc": ..., "APf": ...}, "segm": ...}.

    Args:
        dataset_name: its metadata names a "json_file" in LVIS's format.
        tasks: any of "bbox" and "segm"; by default those that the predictions allow.
        distributed: collect the predictions of all processes and evaluate in the first one.
        output_dir: folder for "instances_predictions.pth" and "lvis_instances_results.json"; None
            writes neither.
        max_dets_per_image: maximum number of detections per image, 300 by default.
    """

    _format = "LVIS"

    def __init__(
        self,
        dataset_name: str,
        tasks: Any = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
    ) -> None:
        if isinstance(tasks, CfgNode):
            logger.warning("LVISEvaluator takes tasks, not a config: they follow the predictions.")
            tasks = None
        self._logger = logger
        self._tasks = tasks
        self._distributed = distributed
        self._output_dir = output_dir
        self._max_dets = max_dets_per_image
        self._cpu_device = torch.device("cpu")
        self._metadata = MetadataCatalog.get(dataset_name)
        self._coco_api = _load_coco(PathManager.get_local_path(self._metadata.json_file))
        self._do_evaluation = len(self._coco_api.getAnnIds()) > 0
        self._predictions: list[dict] = []

    def _eval_task(
        self, detections: list[dict], task: str, img_ids: Sequence[Any] | None
    ) -> dict[str, float]:
        self._logger.info(f"Evaluating {task} ...")
        return _evaluate_predictions_on_lvis(
            self._coco_api, detections, task, max_dets_per_image=self._max_dets
        )

    def _with_original_categories(self, detections: list[dict]) -> list[dict]:
        """Return copies with LVIS's category ids: from 1, unless the metadata maps them."""
        if self._metadata.get("thing_dataset_id_to_contiguous_id") is not None:
            return super()._with_original_categories(detections)
        return [{**found, "category_id": found["category_id"] + 1} for found in detections]


def _evaluate_predictions_on_lvis(
    lvis_gt: COCO,
    lvis_results: list[dict],
    iou_type: str,
    max_dets_per_image: int | None = None,
    class_names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Compute LVIS's summary by name, in percent; nan without predictions or annotations."""
    limit = _MAX_DETECTIONS if max_dets_per_image is None else max_dets_per_image
    logger.info(f"Evaluating with max detections per image = {limit}")
    if not lvis_results:
        logger.warning("No predictions from the model!")
        return {metric: float("nan") for metric in _METRICS}
    if iou_type == "segm":
        # Without boxes areas are computed from masks, as they should for "segm".
        lvis_results = [{k: v for k, v in r.items() if k != "bbox"} for r in lvis_results]
    precision = _precision(lvis_gt, _best_of_each_image(lvis_results, limit), iou_type, limit)
    # (IoU thresholds, recall thresholds, categories, sizes)
    frequencies = np.array([c.get("frequency") for c in _categories(lvis_gt)])
    groups = {
        "AP": precision[..., 0],
        # IoU thresholds 0.5, 0.55, ...: indices 0 and 5 are 0.5 and 0.75.
        "AP50": precision[:1, ..., 0],
        "AP75": precision[5:6, ..., 0],
        "APs": precision[..., 1],
        "APm": precision[..., 2],
        "APl": precision[..., 3],
        **{f"AP{name}": precision[:, :, frequencies == name, 0] for name in "rcf"},
    }
    results = {metric: _average(groups[metric]) for metric in _METRICS}
    logger.info(f"Evaluation results for {iou_type}: \n" + create_small_table(results))
    return results


def _categories(api: COCO) -> list[dict]:
    return [api.cats[category] for category in sorted(api.getCatIds())]


def _best_of_each_image(results: list[dict], limit: int) -> list[dict]:
    """Keep the best `limit` detections per image over all classes; a negative limit keeps all."""
    if limit < 0:
        return results
    by_image: dict[Any, list[dict]] = {}
    for found in results:
        by_image.setdefault(found["image_id"], []).append(found)
    best = (sorted(found, key=lambda r: -r["score"])[:limit] for found in by_image.values())
    return list(itertools.chain(*best))


def _precision(api: COCO, results: list[dict], iou_type: str, limit: int) -> np.ndarray:
    """Return (10 IoU thresholds, 101 recall thresholds, categories, 4 sizes); -1 without truth."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = faster_coco_eval.COCO(api.dataset)
        evaluation = faster_coco_eval.COCOeval_faster(
            truth, truth.loadRes(results), iou_type, lvis_style=True
        )
        evaluation.params.catIds = [category["id"] for category in _categories(api)]
        # The API needs a limit per image and class: here no limit in effect.
        evaluation.params.maxDets = [limit if limit >= 0 else max(1, len(results))]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., -1]


def _average(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    # -1 in percent, as LVIS's own API reports.
    return float(np.mean(known) * 100) if known.size else -100.0
