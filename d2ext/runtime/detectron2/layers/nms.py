"""Non-maximum suppression (NMS)."""

import torch
from torch import Tensor
from torchvision.ops import boxes as box_ops
from torchvision.ops import nms

from .. import _C  # noqa: F401

__all__ = ["batched_nms", "batched_nms_rotated", "nms", "nms_rotated"]


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Apply non-maximum suppression within each group.

    Args:
        boxes: (N, 4) XYXY, any floating dtype.
        scores: (N,).
        idxs: (N,) integers: the group of each box, usually its class.
        iou_threshold: a box with a larger IoU with a better one of its group is suppressed.

    Returns:
        Indices of the boxes kept, by decreasing score.
    """
    if boxes.shape[-1] != 4:
        raise ValueError(f"boxes must be (N, 4), got {boxes.shape}")
    # Groups are separated by shifting their boxes; half precision cannot hold such coordinates.
    return box_ops.batched_nms(boxes.float(), scores, idxs, iou_threshold)


def nms_rotated(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Apply non-maximum suppression to rotated boxes.

    Args:
        boxes: (N, 5): centre x and y, width, height, degrees counter-clockwise.
        scores: (N,).
        iou_threshold: a box with a larger IoU with a better one is suppressed.

    Returns:
        Indices of the boxes kept, by decreasing score.
    """
    return torch.ops.detectron2.nms_rotated(boxes, scores, iou_threshold)


def batched_nms_rotated(
    boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float
) -> Tensor:
    """Apply `nms_rotated` within each group; `idxs` (N,) integers as in `batched_nms`."""
    if boxes.shape[-1] != 5:
        raise ValueError(f"boxes must be (N, 5), got {boxes.shape}")
    if boxes.numel() == 0:
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    boxes = boxes.float()
    # As in Detectron2: half the longer side, although a diagonal box may reach further.
    reach = boxes[:, 2:4].amax(dim=1, keepdim=True) / 2
    low, high = (boxes[:, :2] - reach).min(), (boxes[:, :2] + reach).max()
    # Groups are separated by shifting each by more than the extent of all boxes.
    shifts = idxs.to(boxes)[:, None] * (high - low + 1)
    moved = torch.cat([boxes[:, :2] + shifts, boxes[:, 2:]], dim=1)
    return nms_rotated(moved, scores, iou_threshold)
