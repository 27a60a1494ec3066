"""The FCOS assigner: locations learn the box around them whose size belongs to their level.

Source: Tian et al., "FCOS: A Simple and Strong Anchor-free Object Detector", 2020,
arXiv:2006.09214, section 3.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

FARTHEST = 1e8  # pixels: upper end of the last level's range


def size_ranges(limits: Sequence[float]) -> list[tuple[float, float]]:
    """Return the (least, greatest) distance per level from the limits between levels, in pixels."""
    ends = [-1.0, *limits, FARTHEST]
    return list(pairwise(ends))


def assign_fcos(
    locations: Sequence[Tensor],
    strides: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    boxes: Tensor,
    radius: float,
) -> Tensor:
    """Assign the locations of one image to its boxes.

    A location may predict a box if it lies inside it, at most `radius` strides from its centre on
    each axis, and if the farthest side of the box is within the level's range. Of several boxes it
    takes the smallest.

    Args:
        locations: per level, (L_l, 2) XY in pixels; L in total.
        strides: strides of the levels, in pixels.
        ranges: per level, least and greatest distance in pixels, both included.
        boxes: (M, 4) XYXY in pixels.
        radius: half the side of the region around the centre, in strides; 0 takes the whole box.
    Returns:
        (L,) int64: the assigned row of `boxes`, -1 for background.
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
        # Ambiguous locations learn the smallest box: the larger one has others to be learned from.
        smallest, box = torch.where(candidate, area, torch.inf).min(dim=1)
        matched.append(torch.where(smallest.isfinite(), box, -1))
    return torch.cat(matched)


def distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Return the left, top, right, bottom distances (..., 4) from points to sides of boxes."""
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1)


def _centers(boxes: Tensor, reach: float) -> Tensor:
    """Return the part of each box within `reach` pixels of its centre; all of it for 0."""
    if reach == 0:
        return boxes
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    return torch.cat(
        (torch.maximum(boxes[:, :2], center - reach), torch.minimum(boxes[:, 2:], center + reach)),
        1,
    )
