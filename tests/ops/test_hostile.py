"""Operators called with what no model gives them: shapes that do not fit, NaN, huge numbers."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from d2ext.ops import reference, roi_align
from d2ext.ops.reference import MOST_SAMPLES

OPS = torch.ops.d2ext
STRANGE = [math.nan, math.inf, -math.inf, 1e30, -1e30, 3e38, 1e5, 0.0, -5.0]


def rows(count: int, columns: int, **options: torch.dtype) -> Tensor:
    return torch.zeros(count, columns, **options)


UNIT = [1, 1], [0, 0], [1, 1]
UNIT_PADDED = [1, 1], [0, 0, 0, 0], [1, 1]


def some_maps() -> Tensor:
    return torch.zeros(1, 2, 4, 4)


def some_boxes() -> Tensor:
    return torch.ones(3, 5)


def some_scores() -> Tensor:
    return torch.zeros(3)


def some_offset() -> Tensor:
    return torch.zeros(1, 18, 2, 2)


def some_weight() -> Tensor:
    return torch.zeros(2, 2, 3, 3)


def some_kernels() -> Tensor:
    return torch.zeros(2, 1, 3, 3)


def some_value() -> Tensor:
    return torch.zeros(1, 4, 1, 2)


def some_places() -> Tensor:
    return torch.zeros(1, 3, 1, 1, 2, 2)


def some_factors() -> Tensor:
    return torch.zeros(1, 3, 1, 1, 2)


@pytest.fixture(autouse=True)
def _tensors_on_device(device):
    with device:
        yield


WRONG: dict[str, Callable[[], object]] = {
    "roi_align: columns": lambda: OPS.roi_align(some_maps(), rows(3, 4), 1.0, 2, 2, 2, True),
    "roi_align: maps": lambda: OPS.roi_align(some_maps()[0], rows(3, 5), 1.0, 2, 2, 2, True),
    "roi_align: integers": lambda: OPS.roi_align(
        some_maps().long(), rows(3, 5), 1.0, 2, 2, 2, True
    ),
    "roi_align: bins": lambda: OPS.roi_align(some_maps(), rows(3, 5), 1.0, -2, 2, 2, True),
    "roi_align: image": lambda: OPS.roi_align(some_maps(), rows(3, 5) + 7, 1.0, 2, 2, 0, True),
    "roi_align: NaN image": lambda: OPS.roi_align(
        some_maps(), rows(3, 5) * math.nan, 1.0, 2, 2, 0, True
    ),
    "roi_align_backward: gradient": lambda: OPS.roi_align_backward(
        torch.zeros(2, 2, 2, 2), rows(3, 5), 1.0, 2, True, 1, 4, 4
    ),
    "roi_align_backward: map": lambda: OPS.roi_align_backward(
        torch.zeros(3, 2, 2, 2), rows(3, 5), 1.0, 2, True, 1, -4, 4
    ),
    "roi_align_rotated: columns": lambda: OPS.roi_align_rotated(
        some_maps(), rows(3, 5), 1.0, 2, 2, 2
    ),
    "box_iou_rotated: columns": lambda: OPS.box_iou_rotated(rows(3, 4), some_boxes()),
    "matched_iou_rotated: count": lambda: OPS.matched_iou_rotated(some_boxes(), some_boxes()[:2]),
    "box_iou_rotated_backward: gradient": lambda: OPS.box_iou_rotated_backward(
        rows(2, 2), some_boxes(), some_boxes()
    ),
    "matched_iou_rotated_backward: gradient": lambda: OPS.matched_iou_rotated_backward(
        some_scores()[:1], some_boxes(), some_boxes()
    ),
    "nms_rotated: columns": lambda: OPS.nms_rotated(rows(3, 2), some_scores(), None, 0.5),
    "nms_rotated: scores": lambda: OPS.nms_rotated(some_boxes(), some_scores()[:2], None, 0.5),
    "nms_rotated: more scores": lambda: OPS.nms_rotated(some_boxes(), torch.zeros(99), None, 0.5),
    "nms_rotated: groups": lambda: OPS.nms_rotated(
        some_boxes(), some_scores(), torch.zeros(1).long(), 0.5
    ),
    "nms_rotated: threshold": lambda: OPS.nms_rotated(some_boxes(), some_scores(), None, math.nan),
    "rotated_corners: columns": lambda: OPS.rotated_corners(rows(3, 2)),
    "rotated_corners_backward: gradient": lambda: OPS.rotated_corners_backward(
        rows(1, 2), some_boxes()
    ),
    "sigmoid_focal_loss: targets": lambda: OPS.sigmoid_focal_loss(
        rows(3, 4), rows(2, 4), -1.0, 2.0, False
    ),
    "sigmoid_focal_loss: classes": lambda: OPS.sigmoid_focal_loss(
        rows(3, 4), torch.zeros(2).long(), -1.0, 2.0, True
    ),
    "sigmoid_focal_loss_backward: gradient": lambda: OPS.sigmoid_focal_loss_backward(
        some_scores(), rows(3, 4), rows(3, 4), -1.0, 2.0, False
    ),
    "ms_deform_attn: pixels": lambda: OPS.ms_deform_attn(
        some_value(), [9, 9], some_places(), some_factors()
    ),
    "ms_deform_attn: sizes": lambda: OPS.ms_deform_attn(
        some_value(), [-2, -2], some_places(), some_factors()
    ),
    "ms_deform_attn: overflow": lambda: OPS.ms_deform_attn(
        some_value(), [1 << 32, 1 << 32], some_places(), some_factors()
    ),
    "ms_deform_attn: weights": lambda: OPS.ms_deform_attn(
        some_value(), [2, 2], some_places(), some_factors()[:, :1]
    ),
    "ms_deform_attn: locations": lambda: OPS.ms_deform_attn(
        some_value(), [2, 2], some_places()[0], some_factors()
    ),
    "ms_deform_attn_backward: gradient": lambda: OPS.ms_deform_attn_backward(
        torch.zeros(1, 1, 2), some_value(), [2, 2], some_places(), some_factors()
    ),
    "deform_conv2d: offset": lambda: OPS.deform_conv2d(
        some_maps(), some_offset()[:, :17], some_weight(), None, None, *UNIT
    ),
    "deform_conv2d: size": lambda: OPS.deform_conv2d(
        some_maps(), torch.zeros(1, 18, 5, 5), some_weight(), None, None, *UNIT
    ),
    "deform_conv2d: channels": lambda: OPS.deform_conv2d(
        some_maps(), some_offset(), some_weight()[:, :0], None, None, *UNIT
    ),
    "deform_conv2d: mask": lambda: OPS.deform_conv2d(
        some_maps(), some_offset(), some_weight(), None, torch.zeros(1, 9, 1, 1), *UNIT
    ),
    "deform_conv2d: bias": lambda: OPS.deform_conv2d(
        some_maps(), some_offset(), some_weight(), torch.zeros(5), None, *UNIT
    ),
    "deform_conv2d: stride": lambda: OPS.deform_conv2d(
        some_maps(), some_offset(), some_weight(), None, None, [0, 0], [0, 0], [1, 1]
    ),
    "deform_conv2d_backward: gradient": lambda: OPS.deform_conv2d_backward(
        torch.zeros(1, 2, 1, 1),
        some_maps(),
        some_offset(),
        some_weight(),
        None,
        *UNIT,
        True,
        True,
        True,
    ),
    "depthwise_conv2d: channels": lambda: OPS.depthwise_conv2d(
        some_maps(), torch.zeros(3, 1, 3, 3), None, *UNIT_PADDED
    ),
    "depthwise_conv2d: groups": lambda: OPS.depthwise_conv2d(
        some_maps(), some_weight(), None, *UNIT_PADDED
    ),
    "depthwise_conv2d: kernel": lambda: OPS.depthwise_conv2d(
        some_maps(), torch.zeros(2, 1, 5, 5), None, *UNIT_PADDED
    ),
    "depthwise_conv2d: empty kernel": lambda: OPS.depthwise_conv2d(
        some_maps(), torch.zeros(2, 1, 0, 3), None, *UNIT_PADDED
    ),
    "depthwise_conv2d: bias": lambda: OPS.depthwise_conv2d(
        some_maps(), some_kernels(), torch.zeros(5), *UNIT_PADDED
    ),
    "depthwise_conv2d: stride": lambda: OPS.depthwise_conv2d(
        some_maps(), some_kernels(), None, [0, 0], [0, 0, 0, 0], [1, 1]
    ),
    "depthwise_conv2d: padding": lambda: OPS.depthwise_conv2d(
        some_maps(), some_kernels(), None, [1, 1], [-1, -1, -1, -1], [1, 1]
    ),
    "depthwise_conv2d: dilation": lambda: OPS.depthwise_conv2d(
        some_maps(), some_kernels(), None, [1, 1], [1, 1, 1, 1], [1 << 40, 1]
    ),
    "depthwise_conv2d_backward: gradient": lambda: OPS.depthwise_conv2d_backward(
        torch.zeros(1, 2, 1, 1), some_maps(), some_kernels(), *UNIT_PADDED, True, True
    ),
    "channel_affine: scale": lambda: OPS.channel_affine(
        some_maps(), torch.zeros(3), torch.zeros(2), 0.0, 1.0
    ),
    "channel_affine: shift": lambda: OPS.channel_affine(
        some_maps(), torch.zeros(2), torch.zeros(3), 0.0, 1.0
    ),
    "channel_affine_backward: gradient": lambda: OPS.channel_affine_backward(
        torch.zeros(1, 2, 3, 3), some_maps(), torch.zeros(2), 0.0, 1.0
    ),
}


compiled = pytest.mark.skipif(
    not torch._C._dispatch_has_kernel_for_dispatch_key("d2ext::roi_align", "CPU"),
    reason="the references are PyTorch's own operators, which check their arguments",
)


@compiled
@pytest.mark.parametrize("name", WRONG)
def test_kernels_refuse_arguments_that_do_not_fit(name, device):
    if device.type == "cuda" and "image" in name:
        pytest.skip("an assertion on the device ends the process's use of CUDA")
    with pytest.raises(RuntimeError):
        WRONG[name]()


@pytest.mark.parametrize("value", STRANGE)
@pytest.mark.parametrize("place", [1, 3])
def test_roi_align_of_strange_regions_returns_and_agrees_with_the_reference(value, place):
    maps = torch.arange(48.0).view(1, 3, 4, 4)
    rois = torch.tensor([[0, 1, 1, 3, 3.0]])
    rois[0, place] = value
    for aligned in (True, False):
        found = roi_align(maps, rois, 2, sampling_ratio=0, aligned=aligned)
        expected = reference.roi_align(maps, rois, 1.0, 2, 2, 0, aligned)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("value", STRANGE)
@pytest.mark.parametrize("place", [1, 3, 5])
def test_roi_align_of_strange_rotated_regions_agrees_with_the_reference(value, place):
    maps = torch.arange(48.0).view(1, 3, 4, 4)
    rois = torch.tensor([[0, 2, 2, 3, 3, 20.0]])
    rois[0, place] = value
    found = OPS.roi_align_rotated(maps, rois, 1.0, 2, 2, 0)
    # The sine of 1e30 degrees is rounding noise alone: it has no value to compare.
    if place != 5 or abs(value) < 1e6 or not math.isfinite(value):
        torch.testing.assert_close(found, reference.roi_align(maps, rois, 1.0, 2, 2, 0))
    assert found.isfinite().all()


def test_long_sides_have_a_bounded_number_of_samples():
    maps = torch.zeros(1, 1, 1, 8 * MOST_SAMPLES)
    maps[..., ::8] = 8  # the mean is 1
    rois = torch.tensor([[0, 0, 0, 8.0 * MOST_SAMPLES, 1]])
    pooled = roi_align(maps, rois, (1, 2), sampling_ratio=0, aligned=True)
    # Steps of 8 pixels, from the middle of each: between the pixels 3 and 4, which are zeros.
    torch.testing.assert_close(pooled, torch.zeros(1, 1, 1, 2))


def test_more_samples_than_the_bound_are_refused():
    with pytest.raises(ValueError, match="sampling_ratio must be at most 1024"):
        roi_align(some_maps(), rows(1, 5), 2, sampling_ratio=MOST_SAMPLES + 1)


@pytest.mark.parametrize("value", STRANGE)
@pytest.mark.parametrize("column", range(5))
def test_rotated_boxes_of_strange_numbers_agree_with_the_reference(value, column):
    boxes = torch.tensor([[5, 5, 4, 3, 10.0], [5, 5, 4, 3, 30.0], [6, 5, 4, 3, 10.0]])
    boxes[0, column] = value
    if column == 4 and abs(value) >= 1e6:
        return  # no digit of such an angle is left
    found, expected = (side.box_iou_rotated(boxes, boxes) for side in (OPS, reference))
    torch.testing.assert_close(found, expected, equal_nan=True)
    scores = torch.tensor([0.9, 0.8, 0.7])
    kept, wanted = (side.nms_rotated(boxes, scores, None, 0.3) for side in (OPS, reference))
    assert kept.tolist() == wanted.tolist()


@pytest.mark.parametrize("value", STRANGE)
def test_focal_loss_of_strange_logits_agrees_with_the_reference(value):
    logits, targets = torch.full((2, 3), value), torch.tensor([1, 3])
    options = 0.25, 2.0, False
    found, expected = (s.sigmoid_focal_loss(logits, targets, *options) for s in (OPS, reference))
    torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("value", STRANGE)
def test_attention_at_strange_locations_agrees_with_the_reference(value):
    pixels = torch.arange(8.0).view(1, 4, 1, 2)
    places, factors = torch.full((1, 1, 1, 1, 2, 2), value), torch.ones(1, 1, 1, 1, 2)
    places[..., 1, :] = 0.5
    found, expected = (
        side.ms_deform_attn(pixels, [2, 2], places, factors) for side in (OPS, reference)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("value", STRANGE)
def test_deformable_convolution_at_strange_offsets_agrees_with_the_reference(value):
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    offset = torch.zeros(1, 18, 2, 2)
    offset[0, 0] = value
    arguments = maps, offset, torch.ones(1, 1, 3, 3), None, None, *UNIT
    found, expected = (side.deform_conv2d(*arguments) for side in (OPS, reference))
    torch.testing.assert_close(found, expected)
