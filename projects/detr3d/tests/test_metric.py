"""Matching and the metric: as one detection after another, and where nothing can be counted."""

import numpy as np
import pytest

from d2ext.projects.detr3d.data.classes import CLASSES
from d2ext.projects.detr3d.evaluation import pairs
from d2ext.projects.detr3d.evaluation.boxes import GlobalBoxes
from d2ext.projects.detr3d.evaluation.metric import ERRORS, evaluate_boxes


def boxes(centres, label=0, score=None, sample=None, attribute="vehicle.moving"):
    """Boxes of one class at centres in the plane."""
    centres = np.asarray(centres, dtype=np.float64).reshape(-1, 2)
    count = len(centres)
    return GlobalBoxes(
        sample=np.zeros(count, dtype=np.int64) if sample is None else np.asarray(sample),
        label=np.full(count, label),
        translation=np.concatenate((centres, np.zeros((count, 1))), axis=1),
        size=np.tile([2.0, 4.0, 1.5], (count, 1)),
        rotation=np.tile([1.0, 0, 0, 0], (count, 1)),
        velocity=np.zeros((count, 2)),
        attribute=np.array([attribute] * count, dtype="<U26"),
        score=np.zeros(count) if score is None else np.asarray(score, dtype=np.float64),
        points=np.ones(count, dtype=np.int64),
    )


def one_after_another(samples, centres, truth_samples, truth_centres, limit):
    """The definition of greedy matching."""
    taken, found = set(), []
    for index, (sample, centre) in enumerate(zip(samples, centres, strict=True)):
        free = [j for j in np.flatnonzero(truth_samples == sample) if j not in taken]
        apart = [np.linalg.norm(centre - truth_centres[j]) for j in free]
        if apart and min(apart) < limit:
            taken.add(free[int(np.argmin(apart))])
            found.append((index, free[int(np.argmin(apart))]))
    return found


@pytest.mark.parametrize("chunk", [5, 10**6])
@pytest.mark.parametrize("seed", range(4))
def test_matching_is_that_of_one_detection_after_another(seed, chunk, monkeypatch):
    monkeypatch.setattr(pairs, "CHUNK", chunk)
    rng = np.random.default_rng(seed)
    samples, truth_samples = rng.integers(0, 5, 80), np.sort(rng.integers(0, 5, 40))
    centres = np.round(rng.uniform(0, 6, (80, 2)))  # a grid, so that distances tie
    truth_centres = np.round(rng.uniform(0, 6, (40, 2)))
    detection, truth, _ = pairs.near_pairs(samples, centres, truth_samples, truth_centres, 2.5)
    matched = pairs.match_greedily(detection, truth)
    expected = one_after_another(samples, centres, truth_samples, truth_centres, 2.5)
    assert list(zip(*map(list, matched), strict=True)) == expected


def test_perfect_detections_have_ap_one_and_no_errors():
    truth = boxes([[0, 0], [10, 0], [20, 0]])
    metrics = evaluate_boxes(boxes([[0, 0], [10, 0], [20, 0]], score=[0.9, 0.8, 0.7]), truth)
    assert metrics.class_precisions["car"] == pytest.approx(1)
    assert all(metrics.errors["car"][name] == pytest.approx(0) for name in ERRORS)


def test_of_equal_scores_the_later_detection_comes_first():
    truth = boxes([[0, 0], [50, 50]])
    first_true = evaluate_boxes(boxes([[0, 0], [9, 9]], score=[0.5, 0.5]), truth)
    last_true = evaluate_boxes(boxes([[9, 9], [0, 0]], score=[0.5, 0.5]), truth)
    assert first_true.class_precisions["car"] < last_true.class_precisions["car"]


def test_nothing_to_count_is_the_worst_score():
    metrics = evaluate_boxes(GlobalBoxes.empty(), GlobalBoxes.empty())
    assert metrics.mean_average_precision == 0
    assert metrics.detection_score == 0
    assert set(metrics.errors) == set(CLASSES)


def test_unknown_velocities_and_missing_attributes_are_left_out():
    truth = boxes([[0, 0], [10, 0]], attribute="")
    truth.velocity[:] = np.nan
    errors = evaluate_boxes(boxes([[0, 0], [10, 0]], score=[0.9, 0.8]), truth).errors["car"]
    assert errors["vel_err"] == errors["attr_err"] == 1
    assert errors["trans_err"] == 0
