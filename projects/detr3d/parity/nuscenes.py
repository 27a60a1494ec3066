"""Cases of nuScenes' data and metric: geometry, boxes, submission and numbers of the devkit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from d2ext.parity.case import Case, Comparison
from d2ext.parity.readers import register_parity_reader
from d2ext.parity.settings import check_fixed, check_known
from d2ext.projects.detr3d.data.classes import CLASSES
from d2ext.projects.detr3d.data.mapper import training_boxes
from d2ext.projects.detr3d.data.samples import CAMERAS, Item
from d2ext.projects.detr3d.data.splits import split_scenes
from d2ext.projects.detr3d.data.tables import Tables
from d2ext.projects.detr3d.evaluation.boxes import GlobalBoxes
from d2ext.projects.detr3d.evaluation.filters import filter_boxes
from d2ext.projects.detr3d.evaluation.ground_truth import ground_truth
from d2ext.projects.detr3d.evaluation.metric import evaluate_boxes
from d2ext.projects.detr3d.evaluation.submission import read_submission, to_global

Outputs = Iterator[tuple[str, Tensor]]
SETTINGS = ("classes", "cameras", "version", "split", "metric")
FIELDS = ("translation", "size", "rotation", "velocity", "score")


class NuScenesCase(Case):
    """A made-up nuScenes folder, the devkit's numbers of a submission, and single arrays."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ("case.json", "golden.npz", "metrics.json", "submission.json"))
        check_known("config", self.config, SETTINGS)
        check_fixed("config.classes", self.config.get("classes", [*CLASSES]), [*CLASSES])
        check_fixed("config.cameras", self.config.get("cameras", [*CAMERAS]), [*CAMERAS])
        self.folder = folder
        self.tables = Tables.read(folder / "data" / self.config["version"])
        scenes = split_scenes(self.tables.version, self.tables.scene_names())
        self.items = self.tables.items(scenes["val"])
        # The text holds the bare word NaN, which Python's parser reads.
        self.metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))

    @property
    def tokens(self) -> list[str]:
        return self.facts["input"]["sample_tokens"]

    def submitted(self) -> GlobalBoxes:
        """Return the boxes of the case's submission."""
        return read_submission(self.folder / "submission.json", self.tokens)

    def detections(self) -> GlobalBoxes:
        """Convert the detections in the lidar frames to the global frame."""
        return GlobalBoxes.cat([self._converted(n, item) for n, item in enumerate(self.items)])

    def _converted(self, number: int, item: Item) -> GlobalBoxes:
        boxes, scores, labels = (
            self.golden[f"s{number}.pred_{name}"] for name in ("boxes", "scores", "labels")
        )
        boxes = boxes.astype(np.float64)
        boxes[:, 2] += boxes[:, 5] / 2
        return to_global(number, boxes, scores, labels, item["lidar2ego"], item["ego2global"])

    def expected(self) -> dict[str, np.ndarray]:
        """Return everything that the case stores, by key."""
        stored = {key: self.golden[key] for key in self.golden.files if ".pred_" not in key}
        stored |= {key: self.golden[key] for key in self.golden.files if key.endswith("pred_kept")}
        submitted = self.submitted()
        stored |= {f"submission.{name}": getattr(submitted, name) for name in FIELDS}
        stored["submission.rotation"] = _same_sign(submitted.rotation)
        stored["submission.attribute"] = submitted.attribute
        stored["submission.label"] = submitted.label
        return stored | dict(_flat("metrics", self.metrics))

    def compare_all(self, outputs: Any) -> list[Comparison]:
        """Compare everything that the case stores with ours."""
        return [self._compare(key, own, outputs.get(key)) for key, own in self.expected().items()]

    def _compare(self, key: str, expected: np.ndarray, own: np.ndarray | None) -> Comparison:
        limits = self.facts["tolerance"]["metrics" if key.startswith("metrics") else "geometry"]
        if own is None:
            return Comparison(key, np.inf, "we have no such output")
        expected, own = np.asarray(expected), np.asarray(own)
        if own.shape != expected.shape:
            return Comparison(key, np.inf, f"its shape is {own.shape}, not {expected.shape}")
        if expected.dtype.kind in "Ub":
            return Comparison(key, 0.0 if (own == expected).all() else np.inf)
        own, expected = own.astype(np.float64), expected.astype(np.float64)
        error = np.abs(own - expected) / (limits["atol"] + limits["rtol"] * np.abs(expected))
        error = np.where(np.isnan(own) & np.isnan(expected), 0, error)
        return Comparison(key, float(np.nan_to_num(error, nan=np.inf).max(initial=0)))


def nuscenes(case: NuScenesCase) -> dict[str, Any]:
    """Compute geometry, boxes, submission and metric."""
    found: dict[str, Any] = {}
    for number, item in enumerate(case.items):
        found |= {f"s{number}.{key}": value for key, value in _sample(item)}
    truth, surroundings = ground_truth(case.items)
    detections, submitted = case.detections(), case.submitted()
    kept, counted = (filter_boxes(boxes, surroundings) for boxes in (submitted, truth))
    for number in range(len(case.items)):
        found[f"s{number}.gt_kept"] = np.asarray((counted.sample == number).sum())
        found[f"s{number}.pred_kept"] = np.asarray((kept.sample == number).sum())
    found |= {f"submission.{name}": getattr(detections, name) for name in (*FIELDS, "label")}
    found["submission.rotation"] = _same_sign(detections.rotation)
    found["submission.attribute"] = detections.attribute
    metrics = evaluate_boxes(filter_boxes(detections, surroundings), counted)
    numbers = {
        "label_aps": {
            name: {str(limit): ap for limit, ap in aps.items()}
            for name, aps in metrics.precisions.items()
        },
        "mean_dist_aps": metrics.class_precisions,
        "mean_ap": metrics.mean_average_precision,
        "label_tp_errors": metrics.errors,
        "tp_errors": metrics.mean_errors,
        "tp_scores": {name: max(0.0, 1 - error) for name, error in metrics.mean_errors.items()},
        "nd_score": metrics.detection_score,
    }
    return found | dict(_flat("metrics", numbers))


register_parity_reader(
    lambda facts: facts.get("config", {}).get("metric") == "detection_cvpr_2019",
    nuscenes,
    read=NuScenesCase,
)


def _sample(item: Item) -> Iterator[tuple[str, Any]]:
    yield "lidar2img", item["lidar2img"]
    yield "sensor2lidar_rotation", item["sensor2lidar"][:, :3, :3]
    yield "sensor2lidar_translation", item["sensor2lidar"][:, :3, 3]
    yield "gt_boxes", item["boxes_3d"][:, :7]
    yield "gt_velocity", item["boxes_3d"][:, 7:]
    yield "valid_flag", item["points"] > 0
    yield "names", np.array(item["names"])
    boxes, labels = training_boxes(item)
    lowered = boxes.astype(np.float32)  # before it is lowered: the authors do so in float32
    lowered[:, 2] -= lowered[:, 5] / 2
    yield "train_boxes", lowered
    yield "train_labels", labels


def _same_sign(quaternions: np.ndarray) -> np.ndarray:
    """Return quaternions whose first number is not negative: q and -q are the same rotation."""
    return quaternions * np.where(quaternions[:, :1] < 0, -1, 1)


def _flat(prefix: str, tree: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the numbers of nested dictionaries by their joined keys."""
    if not isinstance(tree, dict):
        yield prefix, np.asarray(tree, dtype=np.float64)
        return
    for key, value in tree.items():
        if key not in ("cfg", "meta", "eval_time"):
            yield from _flat(f"{prefix}.{key}", value)
