"""Non-maximum suppression."""

from torch import Tensor
from torchvision.ops import boxes as box_ops
from torchvision.ops import nms

__all__ = ["batched_nms", "nms"]


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression within each group.

    Args:
        boxes: (N, 4) XYXY, any floating dtype.
        scores: (N,).
        idxs: (N,) integers: the group of each box, usually its class.
        iou_threshold: a box that overlaps a better one of its group by more is dropped.

    Returns:
        Indices of the boxes that stay, by decreasing score.
    """
    if boxes.shape[-1] != 4:
        raise ValueError(f"boxes must be (N, 4), got {tuple(boxes.shape)}")
    # Groups are told apart by shifting their boxes, for which half precision has no room.
    return box_ops.batched_nms(boxes.float(), scores, idxs, iou_threshold)
