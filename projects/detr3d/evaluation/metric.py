"""nuScenes' detection metric: AP by centre distance, five errors of true positives, and NDS.

Source: Caesar et al., "nuScenes", 2020, arXiv:1903.11027, section 3.1; the numbers are those of the
configuration detection_cvpr_2019.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from d2ext.projects.detr3d.data.classes import CLASSES
from d2ext.projects.detr3d.data.geometry import Array, rotation_matrices, yaw_of
from d2ext.projects.detr3d.evaluation.boxes import GlobalBoxes
from d2ext.projects.detr3d.evaluation.pairs import Index, match_greedily, near_pairs

THRESHOLDS = (0.5, 1.0, 2.0, 4.0)  # metres
ERROR_THRESHOLD = 2.0  # metres: of the matches that errors are measured on
ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
UNDEFINED = {
    "traffic_cone": ("orient_err", "vel_err", "attr_err"),
    "barrier": ("vel_err", "attr_err"),
}
HALF_TURN = ("barrier",)  # classes that look the same from behind
RECALLS = np.linspace(0, 1, 101)
MIN_RECALL, MIN_PRECISION = 0.1, 0.1
_FIRST = round(100 * MIN_RECALL) + 1  # of `RECALLS` that counts
AP_WEIGHT = 5  # of mAP in NDS, beside the five errors


@dataclass(frozen=True)
class Curve:
    """Precision and confidence at `RECALLS` for a class and a threshold.

    Attributes:
        precision, confidence: (101,), 0 beyond the highest recall.
    """

    precision: Array
    confidence: Array

    @property
    def average_precision(self) -> float:
        """Mean of the precision above 0.1 where the recall is above 0.1, rescaled to 0..1."""
        above = np.maximum(self.precision[_FIRST:] - MIN_PRECISION, 0)
        return float(above.mean() / (1 - MIN_PRECISION))


@dataclass(frozen=True)
class Metrics:
    """The numbers of an evaluation.

    Attributes:
        precisions: AP by class and threshold.
        errors: by class and name of the error; NaN where it is not defined.
        curves: by class and threshold.
    """

    precisions: Mapping[str, Mapping[float, float]]
    errors: Mapping[str, Mapping[str, float]]
    curves: Mapping[str, Mapping[float, Curve]]

    @property
    def class_precisions(self) -> dict[str, float]:
        """AP by class: the mean over the thresholds."""
        return {name: float(np.mean(list(ap.values()))) for name, ap in self.precisions.items()}

    @property
    def mean_average_precision(self) -> float:
        """Mean of the classes' AP (mAP)."""
        return float(np.mean(list(self.class_precisions.values())))

    @property
    def mean_errors(self) -> dict[str, float]:
        """Mean over the classes by name of the error, undefined ones left out."""
        return {
            name: float(np.nanmean([errors[name] for errors in self.errors.values()]))
            for name in ERRORS
        }

    @property
    def detection_score(self) -> float:
        """The nuScenes detection score (NDS), 0 to 1."""
        scores = [max(0.0, 1.0 - error) for error in self.mean_errors.values()]
        total = AP_WEIGHT * self.mean_average_precision + sum(scores)
        return total / (AP_WEIGHT + len(scores))


def evaluate_boxes(detections: GlobalBoxes, truth: GlobalBoxes) -> Metrics:
    """Compute the metric of detections that the filters have left.

    Args:
        detections: of equal scores in a class, a later one counts as the better one.
        truth: ground truth.
    """
    precisions, errors, curves = {}, {}, {}
    for label, name in enumerate(CLASSES):
        found, own = detections[detections.label == label], truth[truth.label == label]
        # Falling; of equal scores the later one first.
        found = found[np.lexsort((np.arange(len(found)), found.score))[::-1]]
        matches = _match_class(found, own)
        curves[name] = {
            limit: _curve(found.score, matched[0], len(own)) for limit, matched in matches.items()
        }
        precisions[name] = {limit: c.average_precision for limit, c in curves[name].items()}
        errors[name] = _class_errors(
            name, found, own, matches[ERROR_THRESHOLD], curves[name][ERROR_THRESHOLD].confidence
        )
    return Metrics(precisions, errors, curves)


def _match_class(found: GlobalBoxes, truth: GlobalBoxes) -> dict[float, tuple[Index, Index]]:
    """Return the matched detections and their ground truth per threshold."""
    detection, column, distance = near_pairs(
        *(found.sample, found.translation[:, :2], truth.sample, truth.translation[:, :2]),
        max(THRESHOLDS),
    )
    matches = {}
    for limit in THRESHOLDS:
        near = distance < limit
        matches[limit] = match_greedily(detection[near], column[near])
    return matches


def _curve(scores: Array, matched: Index, num_truth: int) -> Curve:
    """Interpolate precision and confidence at `RECALLS`.

    Args:
        scores: (N,) falling.
        matched: positions of the true positives.
        num_truth: of the class.
    """
    if not num_truth or not len(matched):
        return Curve(np.zeros_like(RECALLS), np.zeros_like(RECALLS))
    hits = np.zeros(len(scores))
    hits[matched] = 1
    true_positives = np.cumsum(hits)
    precision = true_positives / np.arange(1, len(scores) + 1)
    recall = true_positives / num_truth
    return Curve(*(np.interp(RECALLS, recall, values, right=0) for values in (precision, scores)))


def _class_errors(
    name: str,
    found: GlobalBoxes,
    truth: GlobalBoxes,
    matched: tuple[Index, Index],
    confidence: Array,
) -> dict[str, float]:
    """Return the errors of a class by name."""
    undefined = UNDEFINED.get(name, ())
    reached = np.flatnonzero(confidence)
    last = int(reached[-1]) if len(reached) else 0
    if last < _FIRST:
        return {error: np.nan if error in undefined else 1.0 for error in ERRORS}
    detections, truths = found[matched[0]], truth[matched[1]]
    measured = _errors(detections, truths, np.pi if name in HALF_TURN else 2 * np.pi)
    averages = {}
    for error, values in measured.items():
        running = _running_mean(values)[::-1]  # np.interp needs confidences that increase
        at_recalls = np.interp(confidence[::-1], detections.score[::-1], running)[::-1]
        mean = float(at_recalls[_FIRST : last + 1].mean())
        averages[error] = np.nan if error in undefined else mean
    return averages


def _errors(detections: GlobalBoxes, truth: GlobalBoxes, period: float) -> dict[str, Array]:
    """Return the errors of matched boxes: (M,) each, NaN where the ground truth is unknown.

    Args:
        period: of the orientation in radians.
    """
    apart = detections.translation[:, :2] - truth.translation[:, :2]
    shared = np.minimum(detections.size, truth.size).prod(axis=1)
    union = detections.size.prod(axis=1) + truth.size.prod(axis=1) - shared
    yaws = (yaw_of(rotation_matrices(boxes.rotation)) for boxes in (truth, detections))
    turn = next(yaws) - next(yaws)
    turn = np.abs((turn + period / 2) % period - period / 2)
    wrong = (detections.attribute != truth.attribute).astype(np.float64)
    errors = (
        np.linalg.norm(apart, axis=1),
        1 - shared / union,
        turn,
        np.linalg.norm(detections.velocity - truth.velocity, axis=1),
        np.where(truth.attribute == "", np.nan, wrong),
    )
    return dict(zip(ERRORS, errors, strict=True))


def _running_mean(values: Array) -> Array:
    """Return the mean up to each value, NaN ignored; 0 before the first number, 1 without any."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones_like(values)
    counts = np.cumsum(known)
    return np.cumsum(np.where(known, values, 0)) / np.maximum(counts, 1)
