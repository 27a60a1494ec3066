"""`Matcher` and `subsample_labels`."""

import torch

import d2ext  # noqa: F401
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.sampling import subsample_labels

QUALITY = torch.tensor([[0.1, 0.45, 0.6, 0.0], [0.2, 0.48, 0.1, 0.0]])


def test_labels_follow_the_thresholds():
    matches, labels = Matcher([0.4, 0.5], [0, -1, 1])(QUALITY)
    assert matches.tolist() == [1, 1, 0, 0]
    assert labels.tolist() == [0, -1, 1, 0]
    assert (matches.dtype, labels.dtype) == (torch.int64, torch.int8)


def test_a_quality_at_a_threshold_belongs_to_the_better_range():
    _, labels = Matcher([0.5], [0, 1])(torch.tensor([[0.5, 0.4999]]))
    assert labels.tolist() == [1, 0]


def test_low_quality_matches_include_the_best_prediction_of_every_ground_truth():
    matches, labels = Matcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True)(QUALITY)
    assert labels.tolist() == [0, 1, 1, 0]
    assert matches.tolist() == [1, 1, 0, 0]


def test_without_ground_truth_everything_is_background():
    matches, labels = Matcher([0.5], [0, 1])(torch.zeros(0, 3))
    assert (matches.tolist(), labels.tolist()) == ([0, 0, 0], [0, 0, 0])


def test_sampling_limits_the_positives_and_fills_up_with_negatives():
    labels = torch.tensor([0, 1, 2, 2, 1, -1, 2, 2, 2, 2])  # 2 is background
    positive, negative = subsample_labels(labels, 4, 0.25, 2)
    assert (len(positive), len(negative)) == (1, 3)
    assert labels[positive].item() in (0, 1)
    assert set(labels[negative].tolist()) == {2}


def test_sampling_returns_all_if_there_are_too_few():
    positive, negative = subsample_labels(torch.tensor([0, 1, -1]), 10, 0.5, 1)
    assert (positive.tolist(), negative.tolist()) == ([0], [1])
