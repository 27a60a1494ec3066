"""Corners of rotated boxes.

Source: the angle convention of Detectron2's `RotatedBoxes`.
"""

from typing import Any

import torch
from torch import Tensor

from d2ext.ops import reference
from d2ext.ops.checks import check_rotated_boxes
from d2ext.ops.decomposition import register_decomposition
from d2ext.ops.differentiation import register_differentiable_once

torch.library.define("d2ext::rotated_corners", "(Tensor boxes) -> Tensor")
torch.library.define(
    "d2ext::rotated_corners_backward", "(Tensor grad_corners, Tensor boxes) -> Tensor"
)
torch.library.impl("d2ext::rotated_corners", "CompositeExplicitAutograd", reference.rotated_corners)
torch.library.impl(
    "d2ext::rotated_corners_backward",
    "CompositeExplicitAutograd",
    reference.rotated_corners_backward,
)


def rotated_corners(boxes: Tensor) -> Tensor:
    """Compute the corners of rotated boxes: top left first, clockwise, named before the rotation.

    Args:
        boxes: (N, 5) floats, XYWHA: centre, width and height in pixels, angle in degrees,
            counter-clockwise as seen on screen (y down). Half types are computed in float32.
    Returns:
        (N, 4, 2) XY pixels, same dtype and device. Differentiable once.
    Raises:
        ValueError: `boxes` is not (N, 5), or not floating point.
    """
    check_rotated_boxes(boxes)
    return torch.ops.d2ext.rotated_corners(boxes)


@torch.library.register_fake("d2ext::rotated_corners")
def _fake(boxes: Tensor) -> Tensor:
    return boxes.new_empty((boxes.shape[0], 4, 2))


@torch.library.register_fake("d2ext::rotated_corners_backward")
def _fake_backward(grad_corners: Tensor, boxes: Tensor) -> Tensor:
    return boxes.new_empty(boxes.shape)


def _save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_corners: Tensor) -> Tensor:
    return torch.ops.d2ext.rotated_corners_backward(grad_corners, *ctx.saved_tensors)


torch.library.register_autograd("d2ext::rotated_corners", _backward, setup_context=_save)
register_decomposition("rotated_corners", reference.rotated_corners)
register_differentiable_once("rotated_corners")
