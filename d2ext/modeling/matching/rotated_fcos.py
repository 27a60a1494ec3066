"""The FCOS assigner for rotated boxes: distances are measured along a box's own sides.

Source: Tian et al., 2020, arXiv:2006.09214, section 3, in the frame of each rotated box.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def assign_rotated_fcos(
    locations: Sequence[Tensor],
    strides: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    boxes: Tensor,
    radius: float,
) -> Tensor:
    """Assign the locations of one image to its rotated boxes, like `assign_fcos`.

    Boxes thinner than a stride count as one stride wide, so that a location lies in each.

    Args:
        locations: per level, (L_l, 2) XY in pixels; L in total.
        strides: strides of the levels, in pixels.
        ranges: per level, least and greatest distance to the farthest side in pixels.
        boxes: (M, 5) XYWHA in pixels and degrees.
        radius: half the side of the region around the centre, in strides; 0 takes the whole box.
    Returns:
        (L,) int64: the assigned row of `boxes`, -1 for background.
    """
    if len(boxes) == 0:
        return torch.cat([points.new_full((len(points),), -1).long() for points in locations])
    half, area = boxes[:, 2:4] / 2, boxes[:, 2] * boxes[:, 3]
    matched = []
    for points, stride, (least, most) in zip(locations, strides, ranges, strict=True):
        offset = offsets_in_boxes(points[:, None], boxes).abs()  # (L_l, M, 2)
        reach = (offset + half).amax(-1)
        region = half.clamp(max=radius * stride) if radius else half
        # A little more than half a stride, for centres midway between two locations.
        central = (offset < region.clamp(min=0.51 * stride)).all(-1)
        candidate = central & (reach >= least) & (reach <= most)
        # As for upright boxes, ambiguous locations learn the smallest.
        smallest, box = torch.where(candidate, area, torch.inf).min(dim=1)
        matched.append(torch.where(smallest.isfinite(), box, -1))
    return torch.cat(matched)


def offsets_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Return the offsets (..., 2) of points from box centres, along the boxes' width and height."""
    dx, dy = (points - boxes[..., :2]).unbind(-1)
    angle = boxes[..., 4].deg2rad()
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((cos * dx - sin * dy, sin * dx + cos * dy), dim=-1)
