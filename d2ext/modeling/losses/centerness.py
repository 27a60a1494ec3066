"""Centerness: how central a point is in a box.

Source: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", 2019, arXiv:1904.01355,
equation 3.
"""

import torch
from torch import Tensor


def centerness(points: Tensor, boxes: Tensor) -> Tensor:
    """Compute the centerness of points in boxes: 1 at the centre, 0 at the border.

    Args:
        points: (N, 2) XY, inside the boxes.
        boxes: (N, 4) XYXY, in the same unit.
    Returns:
        (N,) in [0, 1].
    """
    return ltrb_centerness(torch.cat((points - boxes[:, :2], boxes[:, 2:] - points), dim=1))


def ltrb_centerness(distances: Tensor) -> Tensor:
    """Compute centerness (N,) from distances to the sides (N, 4): left, top, right, bottom."""
    before, behind = distances.split(2, dim=1)
    ratio = torch.minimum(before, behind) / torch.maximum(before, behind)
    return ratio.prod(dim=1).clamp(min=0).sqrt()
