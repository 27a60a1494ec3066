"""Differentiable intersection over union (IoU) of rotated boxes, pairwise or matched.

Source: the box convention and the names of Detectron2's `RotatedBoxes`. The intersection area and
its gradient are integrals along the sides of the boxes (Green's theorem), see
csrc/box_iou_rotated/geometry.h.
"""

from typing import Any

import torch
from torch import Tensor

from d2ext.ops import reference
from d2ext.ops.checks import check_rotated_boxes
from d2ext.ops.decomposition import register_decomposition
from d2ext.ops.differentiation import register_differentiable_once

for _name in ("box_iou_rotated", "matched_iou_rotated"):
    torch.library.define(f"d2ext::{_name}", "(Tensor boxes1, Tensor boxes2) -> Tensor")
    torch.library.define(
        f"d2ext::{_name}_backward",
        "(Tensor grad_iou, Tensor boxes1, Tensor boxes2) -> (Tensor, Tensor)",
    )
    for _pass in (_name, f"{_name}_backward"):
        torch.library.impl(
            f"d2ext::{_pass}", "CompositeExplicitAutograd", getattr(reference, _pass)
        )


def box_iou_rotated(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Compute the pairwise IoU of two sets of rotated boxes.

    Boxes that only touch have an IoU of 0, and so has a box with a side that is not positive or
    with a number that is not finite.

    Args:
        boxes1: (N, 5) floats, XYWHA: centre, width and height in pixels, angle in degrees,
            counter-clockwise as seen on screen (y down). Half types are computed in float32, and
            autocast casts everything but float64 to float32.
        boxes2: (M, 5), same dtype and device.
    Returns:
        (N, M) in [0, 1], same dtype and device. Differentiable once.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other.
    """
    _check(boxes1, boxes2)
    return torch.ops.d2ext.box_iou_rotated(boxes1, boxes2)


def matched_iou_rotated(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Compute the IoU of matched rotated boxes: row i of `boxes1` with row i of `boxes2`.

    Args:
        boxes1, boxes2: (N, 5), otherwise as in `box_iou_rotated`.
    Returns:
        (N,) in [0, 1], same dtype and device. Differentiable once. Where a side of one box lies on
        a side of the other the IoU has a kink; the gradient there is the mean of both one-sided
        ones, which is zero for identical boxes. It is zero for disjoint boxes too.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other.
    """
    _check(boxes1, boxes2)
    if boxes1.shape != boxes2.shape:
        raise ValueError(
            "boxes1 and boxes2 must hold the same number of boxes, "
            f"got {boxes1.shape[0]} and {boxes2.shape[0]}"
        )
    return torch.ops.d2ext.matched_iou_rotated(boxes1, boxes2)


def _check(boxes1: Tensor, boxes2: Tensor) -> None:
    check_rotated_boxes(boxes1, "boxes1")
    check_rotated_boxes(boxes2, "boxes2")
    if boxes1.device != boxes2.device:
        raise ValueError(f"expected one device, got {boxes1.device} and {boxes2.device}")
    # Autocast makes the dtypes equal, but only below this function.
    if boxes1.dtype != boxes2.dtype and not torch.is_autocast_enabled(boxes1.device.type):
        raise ValueError(f"expected one dtype, got {boxes1.dtype} and {boxes2.dtype}")


@torch.library.register_fake("d2ext::box_iou_rotated")
def _fake(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    return boxes1.new_empty((boxes1.shape[0], boxes2.shape[0]))


@torch.library.register_fake("d2ext::matched_iou_rotated")
def _fake_matched(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    return boxes1.new_empty(boxes1.shape[0])


@torch.library.register_fake("d2ext::box_iou_rotated_backward")
@torch.library.register_fake("d2ext::matched_iou_rotated_backward")
def _fake_backward(grad_iou: Tensor, boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    return boxes1.new_empty(boxes1.shape), boxes2.new_empty(boxes2.shape)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_iou: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ops.d2ext.box_iou_rotated_backward(grad_iou, *ctx.saved_tensors)


def _backward_matched(ctx: Any, grad_iou: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ops.d2ext.matched_iou_rotated_backward(grad_iou, *ctx.saved_tensors)


torch.library.register_autograd("d2ext::box_iou_rotated", _backward, setup_context=_save)
torch.library.register_autograd(
    "d2ext::matched_iou_rotated", _backward_matched, setup_context=_save
)
for _name in ("box_iou_rotated", "matched_iou_rotated"):
    for _device in ("cpu", "cuda"):
        torch.library.register_autocast(f"d2ext::{_name}", _device, torch.float32)
# Without the reference's loop over blocks of rows, which an export would unroll for one size.
register_decomposition("box_iou_rotated", reference.box_iou_rotated_at_once)
register_decomposition("matched_iou_rotated", reference.matched_iou_rotated)
register_differentiable_once("box_iou_rotated")
register_differentiable_once("matched_iou_rotated")
