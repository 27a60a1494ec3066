"""Box transforms and the dense box loss."""

import math

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.modeling.box_regression import (
    Box2BoxTransform,
    Box2BoxTransformLinear,
    Box2BoxTransformRotated,
    _dense_box_regression_loss,
)
from detectron2.structures import Boxes

ANCHORS = torch.tensor([[0.0, 0, 10, 20], [5, 5, 15, 10]])
TARGETS = torch.tensor([[5.0, 0, 15, 40], [4, 6, 20, 9]])


def test_deltas_are_shifts_in_sizes_and_logarithms_of_ratios():
    deltas = Box2BoxTransform(weights=(1, 1, 1, 1)).get_deltas(ANCHORS[:1], TARGETS[:1])
    torch.testing.assert_close(deltas, torch.tensor([[0.5, 0.5, 0.0, math.log(2)]]))


def test_weights_multiply_the_deltas():
    deltas = Box2BoxTransform(weights=(10, 10, 5, 5)).get_deltas(ANCHORS[:1], TARGETS[:1])
    torch.testing.assert_close(deltas, torch.tensor([[5.0, 5.0, 0.0, 5 * math.log(2)]]))


@pytest.mark.parametrize(
    "transform",
    [
        Box2BoxTransform(weights=(10, 10, 5, 5)),
        Box2BoxTransformLinear(),
        Box2BoxTransformLinear(False),
    ],
)
def test_apply_deltas_inverts_get_deltas(transform):
    boxes = transform.apply_deltas(transform.get_deltas(ANCHORS, TARGETS), ANCHORS)
    torch.testing.assert_close(boxes, TARGETS)


def test_each_set_of_deltas_is_applied_to_the_box():
    transform = Box2BoxTransform(weights=(1, 1, 1, 1))
    boxes = transform.apply_deltas(torch.zeros(2, 12), ANCHORS)
    torch.testing.assert_close(boxes, ANCHORS.repeat(1, 3))


def test_applying_no_deltas_is_empty():
    transform = Box2BoxTransform(weights=(1, 1, 1, 1))
    assert transform.apply_deltas(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)


def test_the_scale_of_deltas_is_clamped():
    boxes = Box2BoxTransform(weights=(1, 1, 1, 1)).apply_deltas(
        torch.tensor([[0.0, 0, 100, 100]]), torch.tensor([[0.0, 0, 16, 16]])
    )
    assert (boxes[0, 2] - boxes[0, 0]).item() == pytest.approx(1000)


def test_half_precision_deltas_give_single_precision_boxes():
    boxes = Box2BoxTransform(weights=(1, 1, 1, 1)).apply_deltas(torch.zeros(2, 4).half(), ANCHORS)
    assert boxes.dtype == torch.float32


def test_linear_deltas_are_distances_to_the_sides():
    deltas = Box2BoxTransformLinear(normalize_by_size=False).get_deltas(ANCHORS[:1], TARGETS[:1])
    assert deltas.tolist() == [[0, 10, 10, 30]]
    deltas = Box2BoxTransformLinear().get_deltas(ANCHORS[:1], TARGETS[:1])
    assert deltas.tolist() == [[0, 0.5, 1, 1.5]]


def test_negative_distances_count_as_zero():
    boxes = Box2BoxTransformLinear(False).apply_deltas(
        torch.tensor([[-3.0, 1, 2, -1]]), ANCHORS[:1]
    )
    assert boxes.tolist() == [[5, 9, 7, 10]]


@pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
def test_the_dense_loss_is_zero_at_the_target_and_counts_the_foreground_only(kind: str):
    transform = Box2BoxTransform(weights=(1, 1, 1, 1))
    right = transform.get_deltas(ANCHORS, TARGETS)[None]
    wrong = right + torch.tensor([[0.0], [0.5]])
    loss = [
        _dense_box_regression_loss(
            [Boxes(ANCHORS)], transform, [deltas], [TARGETS], torch.tensor([mask]), kind
        ).item()
        for deltas, mask in [(right, [True, True]), (wrong, [True, False]), (wrong, [True, True])]
    ]
    assert loss[:2] == pytest.approx([0, 0], abs=1e-5)
    assert loss[2] > 0.1


def test_smooth_l1_on_deltas_is_their_summed_difference():
    transform = Box2BoxTransform(weights=(1, 1, 1, 1))
    deltas = [transform.get_deltas(ANCHORS, TARGETS)[None] + 0.25]
    loss = _dense_box_regression_loss(
        [Boxes(ANCHORS)], transform, deltas, [TARGETS], torch.ones(1, 2, dtype=torch.bool)
    )
    assert loss.item() == pytest.approx(8 * 0.25)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="no_such_loss"):
        _dense_box_regression_loss(
            [Boxes(ANCHORS)],
            Box2BoxTransform(weights=(1, 1, 1, 1)),
            [torch.zeros(1, 2, 4)],
            [TARGETS],
            torch.ones(1, 2, dtype=torch.bool),
            "no_such_loss",
        )


ROTATED = Box2BoxTransformRotated(weights=(10, 10, 5, 5, 2))


def test_rotated_deltas_are_shifts_ratios_and_a_turn_in_radians():
    source = torch.tensor([[10.0, 10, 20, 10, -170]])
    target = torch.tensor([[14.0, 8, 40, 10, 100]])
    deltas = ROTATED.get_deltas(source, target)
    expected = [10 * 0.2, 10 * -0.2, 5 * math.log(2), 0, 2 * -math.pi / 2]  # the shorter way round
    assert deltas[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_apply_rotated_deltas_inverts_get_deltas():
    source = torch.tensor([[10.0, 10, 20, 10, -170], [5, 5, 3, 8, 30]])
    target = torch.tensor([[14.0, 8, 40, 12, 100], [6, 3, 5, 5, -45]])
    boxes = ROTATED.apply_deltas(ROTATED.get_deltas(source, target), source)
    torch.testing.assert_close(boxes, target, atol=1e-4, rtol=1e-5)


def test_each_set_of_rotated_deltas_gives_a_box_with_normalised_angle():
    boxes = ROTATED.apply_deltas(torch.zeros(1, 10), torch.tensor([[1.0, 2, 3, 4, 190]]))
    assert boxes.tolist() == [pytest.approx([1, 2, 3, 4, -170] * 2, abs=1e-4)]


def test_the_scale_of_rotated_deltas_is_clamped():
    deltas = torch.tensor([[0.0, 0, 500, 500, 0]])
    box = ROTATED.apply_deltas(deltas, torch.tensor([[0.0, 0, 16, 16, 0]]))[0]
    assert box[2].item() == pytest.approx(1000, rel=1e-5)
