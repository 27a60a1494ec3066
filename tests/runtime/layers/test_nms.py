"""Non-maximum suppression of rotated boxes."""

import torch

import d2ext  # noqa: F401
from detectron2.layers import batched_nms_rotated, nms_rotated

# The second one covers the first, a quarter turn apart; the third is elsewhere.
BOXES = torch.tensor([[10.0, 10, 20, 10, 0], [10, 10, 10, 20, 90], [60, 60, 8, 8, 45]])
SCORES = torch.tensor([0.5, 0.9, 0.7])


def test_a_box_that_overlaps_a_better_one_is_suppressed():
    assert nms_rotated(BOXES, SCORES, 0.5).tolist() == [1, 2]


def test_groups_do_not_suppress_each_other():
    keep = batched_nms_rotated(BOXES, SCORES, torch.tensor([0, 1, 0]), 0.5)
    assert keep.tolist() == [1, 2, 0]
    assert batched_nms_rotated(BOXES, SCORES, torch.tensor([4, 4, 0]), 0.5).tolist() == [1, 2]


def test_groups_with_negative_coordinates_do_not_suppress_each_other():
    boxes = BOXES - torch.tensor([500.0, 500, 0, 0, 0])
    keep = batched_nms_rotated(boxes, SCORES, torch.tensor([0, 1, 2]), 0.5)
    assert keep.tolist() == [1, 2, 0]


def test_nms_of_no_boxes_is_empty():
    empty = torch.zeros(0, 5)
    assert batched_nms_rotated(empty, empty[:, 0], torch.zeros(0).long(), 0.5).tolist() == []
