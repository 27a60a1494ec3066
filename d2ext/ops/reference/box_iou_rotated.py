"""IoU of rotated boxes and its gradient in plain PyTorch.

By Green's theorem: in the frame of one box the other one is a polygon, and the intersection area is
the integral of y dx around that polygon with x and y clamped to the first box. Each side
contributes on its own, so no list of intersection points has to be sorted.
"""

import torch
from torch import Tensor

from d2ext.ops.reference.floats import in_float
from d2ext.ops.reference.rotated_corners import DEGREE, cos_and_sin, rotated_corners

_PAIRS_AT_ONCE = 1 << 16  # bounds the memory: some twenty numbers per side of each pair


def box_iou_rotated(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return the (N, M) pairwise IoU of (N, 5) and (M, 5) boxes."""
    rows = max(_PAIRS_AT_ONCE // max(len(boxes2), 1), 1)
    parts = [box_iou_rotated_at_once(some, boxes2) for some in boxes1.split(rows)]
    return torch.cat(parts)


def box_iou_rotated_at_once(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Compute `box_iou_rotated` without its loop over rows, for exporters, with all in memory."""
    return matched_iou_rotated(boxes1[:, None], boxes2[None])


def matched_iou_rotated(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return the (...) IoU of two times (..., 5) matched boxes; half types computed in float32."""
    first, second = in_float(boxes1), in_float(boxes2)
    common = _common_area(first, second)
    union = _area(first) + _area(second) - common
    # Degenerate boxes may have a union of 0; infinite ones a common area or a quotient of NaN.
    iou = common / torch.where(common > 0, union, 1)
    return torch.where(iou > 0, iou, 0).to(boxes1.dtype)


def box_iou_rotated_backward(
    grad_iou: Tensor, boxes1: Tensor, boxes2: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the (N, 5) and (M, 5) gradients of both sets, from that of the (N, M) IoU."""
    return _rows_backward(grad_iou, boxes1, boxes2), _rows_backward(grad_iou.mT, boxes2, boxes1)


def matched_iou_rotated_backward(
    grad_iou: Tensor, boxes1: Tensor, boxes2: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the (N, 5) gradients of both sets, from that of the (N,) IoU."""
    grad, first, second = (in_float(tensor) for tensor in (grad_iou, boxes1, boxes2))
    grads = _iou_gradient(grad, first, second), _iou_gradient(grad, second, first)
    return grads[0].to(boxes1.dtype), grads[1].to(boxes2.dtype)


def _rows_backward(grad_iou: Tensor, boxes: Tensor, others: Tensor) -> Tensor:
    rows = max(_PAIRS_AT_ONCE // max(len(others), 1), 1)
    grad, exact, columns = in_float(grad_iou), in_float(boxes), in_float(others)[None]
    parts = [
        _iou_gradient(some_grad, some[:, None], columns).sum(1)
        for some_grad, some in zip(grad.split(rows), exact.split(rows), strict=True)
    ]
    return torch.cat(parts).to(boxes.dtype)


def _area(boxes: Tensor) -> Tensor:
    return boxes[..., 2] * boxes[..., 3]


def _in_frame_of(boxes: Tensor, others: Tensor) -> Tensor:
    """Transform `others` to the frames of `boxes`, where a box is centred at 0 with angle 0."""
    dx, dy = (others[..., :2] - boxes[..., :2]).unbind(-1)
    cos, sin = cos_and_sin(boxes[..., 4])
    centre = torch.stack((cos * dx - sin * dy, sin * dx + cos * dy), dim=-1)
    sizes, angles = others[..., 2:4].expand(*centre.shape), others[..., 4:] - boxes[..., 4:]
    return torch.cat((centre, sizes, angles), dim=-1)


def _overlap(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return true for boxes that overlap, by separating axes; false for boxes without an area."""
    overlap = (boxes1[..., 2:4] > 0) & (boxes2[..., 2:4] > 0)
    for own, other in ((boxes1, boxes2), (boxes2, boxes1)):
        seen = _in_frame_of(own, other)
        cos, sin = (value.abs() for value in cos_and_sin(seen[..., 4:]))
        reach = own[..., 2:4] + cos * seen[..., 2:4] + sin * seen[..., 2:4].flip(-1)
        overlap = overlap & (seen[..., :2].abs() < reach / 2)
    return overlap.all(-1)


def _common_area(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    corners = rotated_corners(_in_frame_of(boxes1, boxes2))
    x1, y1 = corners.unbind(-1)  # sides run backwards, which makes the integral positive
    x0, y0 = torch.cat((corners[..., 1:, :], corners[..., :1, :]), dim=-2).unbind(-1)
    half_width, half_height = (boxes1[..., 2:4, None] / 2).unbind(-2)
    left, right = _clamp(x0, half_width), _clamp(x1, half_width)
    # The part of the side with |x| <= half_width, in [0, 1] along the side.
    begin, end = _fraction(left - x0, x1 - x0), _fraction(right - x0, x1 - x0)
    first = _clamp(y0 + begin * (y1 - y0), half_height)
    last = _clamp(y0 + end * (y1 - y0), half_height)
    # The clamped y goes from first to last between `leave` and `arrive`; it is constant before and
    # after, where the side is above or below the first box.
    leave = _fraction(first - y0, y1 - y0).clamp(begin, end)
    arrive = _fraction(last - y0, y1 - y0).clamp(begin, end)
    integral = first * (right - left) + (last - first) * (x1 - x0) * (end - (leave + arrive) / 2)
    # Rounding may leave the integral outside what an intersection can be.
    area = integral.sum(-1).clamp(min=0).minimum(_area(boxes1)).minimum(_area(boxes2))
    return torch.where(_overlap(boxes1, boxes2), area, 0)


def _clamp(values: Tensor, bounds: Tensor) -> Tensor:
    return values.minimum(bounds).maximum(-bounds)


def _fraction(part: Tensor, whole: Tensor) -> Tensor:
    # Where the whole is 0 the side has no extent, and the integral multiplies by that 0.
    return (part / torch.where(whole == 0, 1, whole)).clamp(0, 1)


def _iou_gradient(grad_iou: Tensor, boxes: Tensor, others: Tensor) -> Tensor:
    """Return the gradient of `boxes`, from that of the IoU.

    The borders of the intersection that belong to `boxes` move with them. For the part of a side
    that lies in the other box, the intersection grows by its length for each pixel that the side
    moves outwards, and by its first moment for each radian that the box turns.
    """
    seen = _in_frame_of(others, boxes)
    cos, sin = cos_and_sin(seen[..., 4:])
    across = torch.cat((cos, -sin), dim=-1) * seen[..., 2:3] / 2  # from the centre to the right
    down = torch.cat((sin, cos), dim=-1) * seen[..., 3:4] / 2
    middles = seen[..., None, :2] + torch.stack((across, down, -across, -down), dim=-2)
    steps = torch.stack((down, across, down, across), dim=-2)
    units = seen[..., [3, 2, 3, 2]] / 2  # pixels per step: sides right, below, left and above
    begin, end, weight = _part_inside(middles, steps, others[..., None, 2:4] / 2)
    length = weight * (end - begin) * units
    moment = weight * (end.square() - begin.square()) / 2 * units.square()

    dx, dy = (length[..., :2] - length[..., 2:]).unbind(-1)
    cos, sin = cos_and_sin(boxes[..., 4])
    turn = moment[..., 0] - moment[..., 1] - moment[..., 2] + moment[..., 3]
    growth = (length[..., :2] + length[..., 2:]) / 2
    grad_common = torch.stack(
        (cos * dx + sin * dy, cos * dy - sin * dx, *growth.unbind(-1), turn * DEGREE),
        dim=-1,
    )
    common = _common_area(others, boxes)[..., None]
    areas = (_area(boxes) + _area(others))[..., None]
    union = torch.where(common > 0, areas - common, 1)
    grad_own = torch.nn.functional.pad(boxes[..., 2:4].flip(-1), (2, 1))
    # d(common / union), with union = areas - common. Quotients first: no area is squared.
    grad = (grad_common * (areas / union) - grad_own * (common / union)) / union
    return torch.where(common > 0, grad * grad_iou[..., None], 0)


def _part_inside(middles: Tensor, steps: Tensor, limits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Clip the segments middle + t * step, |t| <= 1, to |x|, |y| <= limits.

    Returns:
        First and last t of the part inside, and a weight: 1, 0 where a segment parallel to a limit
        lies outside it, or 1/2 where it lies on it (the mean of both one-sided gradients).
    """
    level = steps == 0  # parallel to the limits of this coordinate: division is impossible
    divisors = torch.where(level, 1, steps)
    low, high = (-limits - middles) / divisors, (limits - middles) / divisors
    begin = torch.where(level, -1, torch.minimum(low, high)).amax(-1).clamp(-1, 1)
    end = torch.where(level, 1, torch.maximum(low, high)).amin(-1).clamp(-1, 1)
    rest = (torch.sign(limits - middles.abs()) + 1) / 2  # inside 1, on the limit a half, outside 0
    weight = torch.where(level, rest, 1).prod(-1)
    return begin, torch.maximum(begin, end), weight
