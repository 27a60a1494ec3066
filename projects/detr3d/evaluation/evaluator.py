"""The evaluator of nuScenes' data: collects boxes, writes the submission, computes the metric."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from d2ext.evaluation.build import register_evaluator
from d2ext.files import replacing
from d2ext.projects.detr3d.data.formats import EVALUATOR
from d2ext.projects.detr3d.data.samples import Item
from d2ext.projects.detr3d.evaluation.boxes import GlobalBoxes
from d2ext.projects.detr3d.evaluation.filters import filter_boxes
from d2ext.projects.detr3d.evaluation.ground_truth import ground_truth
from d2ext.projects.detr3d.evaluation.metric import ERRORS, Metrics, evaluate_boxes
from d2ext.projects.detr3d.evaluation.submission import to_global, write_submission
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

logger = logging.getLogger(__name__)
SUBMISSION, DETAILS = "results_nusc.json", "metrics_details.json"
TASK = "nuscenes"
LOG_NAMES = dict(zip(ERRORS, ("mATE", "mASE", "mAOE", "mAVE", "mAAE"), strict=True))


class NuScenesEvaluator(DatasetEvaluator):
    """Computes NDS, mAP and the five errors, and writes results_nusc.json.

    Args:
        items: the samples of the data set; those without "truth" only get a submission.
        folder: for the files that are written.
    """

    def __init__(self, items: list[Item], folder: Path) -> None:
        self.items, self.folder = items, folder
        self.numbers = {item["image_id"]: number for number, item in enumerate(items)}
        self.found: dict[int, GlobalBoxes] = {}

    def reset(self) -> None:
        self.found = {}

    def process(self, inputs: list[Item], outputs: list[dict[str, Any]]) -> None:
        """Convert the boxes of a batch to the global frame."""
        for sample, output in zip(inputs, outputs, strict=True):
            number, found = self.numbers[sample["image_id"]], output["boxes_3d"]
            item = self.items[number]
            arrays = (found.boxes, found.scores, found.classes)
            self.found[number] = to_global(
                number,
                *(tensor.detach().cpu().numpy() for tensor in arrays),
                item["lidar2ego"],
                item["ego2global"],
            )

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Return {"nuscenes": {metric: number}}; empty in all processes but the first."""
        gathered = comm.gather(self.found)
        if not comm.is_main_process():
            return {}
        found = {number: boxes for part in gathered for number, boxes in part.items()}
        detections = GlobalBoxes.cat([found[number] for number in sorted(found)])
        self.folder.mkdir(parents=True, exist_ok=True)
        tokens = [item["image_id"] for item in self.items]
        write_submission(self.folder / SUBMISSION, tokens, detections)
        truth, surroundings = ground_truth(self.items)
        if not len(truth):
            logger.warning("the data set has no ground truth: only %s is written", SUBMISSION)
            return {TASK: {}}
        metrics = evaluate_boxes(
            filter_boxes(detections, surroundings), filter_boxes(truth, surroundings)
        )
        self._write_details(metrics)
        return {TASK: summary(metrics)}

    def _write_details(self, metrics: Metrics) -> None:
        details = {
            "summary": summary(metrics),
            "label_aps": metrics.precisions,
            "label_tp_errors": {
                name: {error: None if np.isnan(value) else value for error, value in each.items()}
                for name, each in metrics.errors.items()
            },
            "precision": {
                name: {limit: curve.precision.tolist() for limit, curve in curves.items()}
                for name, curves in metrics.curves.items()
            },
        }
        with replacing(self.folder / DETAILS) as temporary:
            temporary.write_text(json.dumps(details), encoding="utf-8")


def summary(metrics: Metrics) -> dict[str, float]:
    """Return NDS, mAP, AP per class and at 2 m in percent, and the mean errors by their names."""
    at_two = np.mean([precisions[2.0] for precisions in metrics.precisions.values()])
    return {
        "NDS": 100 * metrics.detection_score,
        "mAP": 100 * metrics.mean_average_precision,
        "mAP-2m": 100 * float(at_two),
        **{LOG_NAMES[name]: error for name, error in metrics.mean_errors.items()},
        **{f"AP-{name}": 100 * ap for name, ap in metrics.class_precisions.items()},
    }


def build_nuscenes_evaluator(cfg: CfgNode, name: str, folder: str) -> NuScenesEvaluator:
    """Build the evaluator of a registered data set."""
    return NuScenesEvaluator(DatasetCatalog.get(name), Path(folder))


register_evaluator(EVALUATOR, build_nuscenes_evaluator)
