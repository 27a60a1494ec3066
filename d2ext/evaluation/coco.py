"""COCO's AP where nothing was detected: 0 if there are objects to find, else not measurable."""

import math
from typing import Any

from detectron2.evaluation import COCOEvaluator

_AREAS = {"APs": (0.0, 32.0**2), "APm": (32.0**2, 96.0**2), "APl": (96.0**2, math.inf)}


class MeasuredCOCOEvaluator(COCOEvaluator):
    """Detectron2's evaluator, whose NaN of a model without detections becomes an AP of 0.

    NaN stays where the data have no object, so that there is nothing to measure.
    """

    def evaluate(self, img_ids: Any = None) -> Any:
        results = super().evaluate(img_ids)
        objects = [a for a in self._coco_api.anns.values() if not a.get("iscrowd", 0)]
        areas = [float(each.get("area", 0.0)) for each in objects]
        for metrics in (results or {}).values():
            if metrics and all(math.isnan(value) for value in metrics.values()):
                metrics.update({name: 0.0 for name in metrics if _can_measure(name, areas)})
        return results


def _can_measure(metric: str, areas: list[float]) -> bool:
    low, high = _AREAS.get(metric, (0.0, math.inf))
    return any(low <= area < high for area in areas)
