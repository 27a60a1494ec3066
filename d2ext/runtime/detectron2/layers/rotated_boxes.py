"""IoU of rotated boxes."""

import torch
from torch import Tensor


def pairwise_iou_rotated(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Compute the IoU of every pair.

    Args:
        boxes1, boxes2: (N, 5) and (M, 5) XYWHA: centre and size in pixels, angle in degrees.

    Returns:
        (N, M).
    """
    return torch.ops.detectron2.box_iou_rotated(boxes1, boxes2)
