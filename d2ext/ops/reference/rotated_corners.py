"""Corners of rotated boxes in plain PyTorch."""

import math

import torch
from torch import Tensor

from d2ext.ops.reference.floats import in_float

DEGREE = math.pi / 180  # in radians
# From the centre to each corner, in widths and heights.
CORNERS = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))


def rotated_corners(boxes: Tensor) -> Tensor:
    """Return the (..., 4, 2) corners of (..., 5) XYWHA boxes; half types computed in float32."""
    exact = in_float(boxes)
    dx, dy = _from_centre(exact).unbind(-1)  # (..., 4) each, in the box's own frame
    cos, sin = cos_and_sin(exact[..., 4:])
    # Counter-clockwise on screen, where y points down: the signs of the textbook are swapped.
    turned = torch.stack((cos * dx + sin * dy, cos * dy - sin * dx), dim=-1)
    return (exact[..., None, :2] + turned).to(boxes.dtype)


def rotated_corners_backward(grad_corners: Tensor, boxes: Tensor) -> Tensor:
    """Return the (N, 5) gradient of the boxes, from the (N, 4, 2) gradient of the corners."""
    grad, exact = in_float(grad_corners), in_float(boxes)
    grad_x, grad_y = grad.unbind(-1)
    cos, sin = cos_and_sin(exact[:, 4:])
    # The gradient in the box's own frame, where a turn moves a corner by (dy, -dx) per radian.
    turned = torch.stack((cos * grad_x - sin * grad_y, sin * grad_x + cos * grad_y), dim=-1)
    dx, dy = _from_centre(exact).unbind(-1)
    grad_angle = (turned[..., 0] * dy - turned[..., 1] * dx).sum(1, keepdim=True) * DEGREE
    grad_sizes = (turned * turned.new_tensor(CORNERS)).sum(1)
    return torch.cat((grad.sum(1), grad_sizes, grad_angle), dim=1).to(boxes.dtype)


def cos_and_sin(degrees: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of angles in degrees, exact for multiples of 90."""
    # Exact, since sides of boxes often coincide at these angles and rounding would part them. So
    # the quarter turns are taken off before anything is rounded.
    quarters = torch.round(degrees / 90)
    rest = (degrees - 90 * quarters) * DEGREE
    cos, sin, turn = torch.cos(rest), torch.sin(rest), torch.remainder(quarters, 4)
    sign, odd = torch.where(turn < 2, 1, -1), torch.remainder(turn, 2) == 1
    return torch.where(odd, -sin, cos) * sign, torch.where(odd, cos, sin) * sign


def _from_centre(boxes: Tensor) -> Tensor:
    # Without a constant tensor, which PyTorch 2.10 loses where it decomposes an exported program.
    dx, dy = (boxes[..., 2:4] / 2).unbind(-1)
    return torch.stack(
        (torch.stack((-dx, dx, dx, -dx), -1), torch.stack((-dy, -dy, dy, dy), -1)), -1
    )
