"""Matching of locations to boxes by the level that a box's size belongs to.

Source: Tian et al., "FCOS: A Simple and Strong Anchor-free Object Detector", 2020,
arXiv:2006.09214, section 3.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

FARTHEST = 1e8  # pixels: upper end of the last level's range


def size_ranges(limits: Sequence[float]) -> list[tuple[float, float]]:
    """The ranges of distances that levels take, from the limits between them, in pixels."""
    ends = [-1.0, *limits, FARTHEST]
    return list(pairwise(ends))


def match_by_location(
    locations: Sequence[Tensor],
    strides: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    boxes: Tensor,
    radius: float,
) -> Tensor:
    """Match the locations of one image to its boxes.

    A location may predict a box if it lies inside it, at most `radius` strides from its centre on
    each axis, and if the farthest side of the box is within the level's range. Of several boxes it
    takes the smallest.

    Args:
        locations: of each level, (L_l, 2) XY in pixels; L in all.
        strides: of each level, in pixels.
        ranges: of each level, least and greatest distance in pixels, both included.
        boxes: (M, 4) XYXY in pixels.
        radius: of the centre's region, in strides; 0 takes the whole box.
    Returns:
        (L,) int64: the row of `boxes`, -1 for background.
    """
    if len(boxes) == 0:
        return torch.cat(
            [points.new_full((len(points),), -1, dtype=torch.int64) for points in locations]
        )
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    matched = []
    for points, stride, (least, most) in zip(locations, strides, ranges, strict=True):
        reach = distances(points[:, None], boxes).amax(-1)  # (L_l, M)
        central = distances(points[:, None], _centers(boxes, radius * stride)).amin(-1) > 0
        candidate = central & (reach >= least) & (reach <= most)
        smallest, box = torch.where(candidate, area, torch.inf).min(dim=1)
        matched.append(torch.where(smallest.isfinite(), box, -1))
    return torch.cat(matched)


def distances(points: Tensor, boxes: Tensor) -> Tensor:
    """From points (..., 2) to the sides of boxes (..., 4): left, top, right, bottom."""
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1)


def _centers(boxes: Tensor, reach: float) -> Tensor:
    """The part of each box that is within `reach` pixels of its centre; 0: all of it."""
    if reach == 0:
        return boxes
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    return torch.cat(
        (torch.maximum(boxes[:, :2], center - reach), torch.minimum(boxes[:, 2:], center + reach)),
        1,
    )
