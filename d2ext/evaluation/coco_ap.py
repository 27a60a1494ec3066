"""COCO's AP where nothing was found, or nothing is there to be found.

Detectron2's evaluators return NaN for both. Where objects are missed, all of them, AP is 0.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

from d2ext.evaluation.truth import read_truth
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, RotatedCOCOEvaluator

# Objects that each metric counts, by their area in pixels, as COCO defines them.
_AREAS = {
    "AP": (0.0, math.inf),
    "AP50": (0.0, math.inf),
    "AP75": (0.0, math.inf),
    "APs": (0.0, 32.0**2),
    "APm": (32.0**2, 96.0**2),
    "APl": (96.0**2, math.inf),
}

_logger = logging.getLogger(__name__)

Results = dict[str, dict[str, float]]


class CocoAp(COCOEvaluator):
    """Detectron2's COCO evaluator, with an AP of 0 where objects are there and none is found."""

    def __init__(self, dataset_name: str, **options: Any) -> None:
        super().__init__(dataset_name, **options)
        self.dataset_name = dataset_name

    def evaluate(self, img_ids: Any = None) -> Results:
        """Return the metrics by task; NaN where there are no objects to measure them by."""
        return with_zeros(super().evaluate(img_ids), self.dataset_name)


class RotatedCocoAp(CocoAp, RotatedCOCOEvaluator):
    """Detectron2's evaluator of rotated boxes, with an AP of 0 as `CocoAp` has it."""


def with_zeros(results: Results, dataset_name: str) -> Results:
    """Replace NaN by 0 in metrics that objects of the data set could be found for.

    Args:
        results: as `COCOEvaluator.evaluate` returns them, which is None or {} in all processes but
            the first.
    """
    if not results or not any(map(_is_nan, (m.get("AP", 0.0) for m in results.values()))):
        return results
    objects = read_truth(MetadataCatalog.get(dataset_name).json_file)["annotations"]
    objects = [item for item in objects if not item["iscrowd"]]
    if not objects:
        _logger.warning("%s: has no objects, so AP cannot be measured.", dataset_name)
        return results
    return {task: _with_zeros(task, metrics, objects) for task, metrics in results.items()}


def _with_zeros(
    task: str, metrics: dict[str, float], objects: Sequence[dict[str, Any]]
) -> dict[str, float]:
    if not _is_nan(metrics.get("AP", 0.0)):
        return metrics
    if task == "keypoints":
        objects = [item for item in objects if item.get("num_keypoints")]
    areas = [float(item["area"]) for item in objects]
    return {
        name: 0.0 if any(low <= area < high for area in areas) else value
        for name, value in metrics.items()
        for low, high in [_AREAS.get(name, (math.inf, math.inf))]
    }


def _is_nan(value: float) -> bool:
    return isinstance(value, float) and math.isnan(value)
