"""Matching of our boxes to those of a reference, whose order may differ where scores tie."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from detectron2.structures import Boxes, RotatedBoxes, pairwise_iou
from detectron2.structures.rotated_boxes import pairwise_iou as pairwise_iou_rotated


def match_to_reference(
    reference: Boxes | RotatedBoxes,
    boxes: Boxes | RotatedBoxes,
    values: Iterable[tuple[Tensor, Tensor]],
) -> Tensor:
    """Return the index of our box that matches each reference box.

    Args:
        values: pairs of (N,) reference and our values, such as scores, that tell boxes of one
            place apart.
    Returns:
        (N,) int64 without repetitions. Where the numbers differ or a box would be taken twice, our
        own order, so that the comparison shows the difference.
    """
    own = torch.arange(len(boxes))
    if len(boxes) != len(reference) or not len(boxes):
        return own
    iou: Any = pairwise_iou_rotated if isinstance(boxes, RotatedBoxes) else pairwise_iou
    likeness = iou(reference, boxes)
    for expected, value in values:
        likeness = likeness - (expected[:, None] - value).abs()
    best = likeness.argmax(dim=1)
    return best if len(best.unique()) == len(best) else own
