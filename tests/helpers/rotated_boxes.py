"""Rotated boxes to test with, and what shapely says of them."""

import torch
from shapely.geometry import Polygon
from torch import Tensor

from d2ext.ops import reference


def some_boxes(count: int, seed: int = 0, dtype=torch.float64, device="cpu", span=60.0) -> Tensor:
    """Boxes of 4 to 40 pixels at any angle, with their centres in a square of that span."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.rand(count, 5, generator=generator, dtype=torch.float64)
    scale, start = (
        random.new_tensor([span, span, 36, 36, 720]),
        random.new_tensor([0, 0, 4, 4, -360]),
    )
    return (random * scale + start).to(device, dtype)


def shapely_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """(N, M) by clipping polygons, in double precision."""
    first, second = (_polygons(boxes) for boxes in (boxes1, boxes2))
    ious = [[a.intersection(b).area / a.union(b).area for b in second] for a in first]
    return torch.tensor(ious, dtype=torch.float64).view(len(boxes1), len(boxes2))


def _polygons(boxes: Tensor) -> list[Polygon]:
    return [
        Polygon(corners) for corners in reference.rotated_corners(boxes.double().cpu()).tolist()
    ]
