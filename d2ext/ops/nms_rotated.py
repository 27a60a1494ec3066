"""Non-maximum suppression (NMS) of rotated boxes.

Source: the names and conventions of Detectron2's `nms_rotated` and `batched_nms_rotated`.
"""

import torch
from torch import Tensor

from d2ext.ops import reference
from d2ext.ops.checks import check_rotated_boxes
from d2ext.ops.decomposition import register_decomposition

torch.library.define(
    "d2ext::nms_rotated",
    "(Tensor boxes, Tensor scores, Tensor? groups, float iou_threshold) -> Tensor",
)
torch.library.impl("d2ext::nms_rotated", "CompositeExplicitAutograd", reference.nms_rotated)


def nms_rotated(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Perform greedy non-maximum suppression of rotated boxes.

    The best box is kept, boxes whose IoU with it exceeds the threshold are dropped, and the same is
    repeated with the rest.

    Args:
        boxes: (N, 5) floats, XYWHA, see `box_iou_rotated`. Half types are computed in float32.
        scores: (N,) floats; boxes of equal score keep their order.
        iou_threshold: at least 0.
    Returns:
        (K,) int64 indices of the kept boxes, by decreasing score. On CUDA the host synchronises
        once, to learn K.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other.
    """
    _check(boxes, scores, iou_threshold)
    return torch.ops.d2ext.nms_rotated(boxes, scores, None, iou_threshold)


def batched_nms_rotated(
    boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float
) -> Tensor:
    """Perform `nms_rotated` within each group of boxes, usually a class, an image or both.

    Boxes are not shifted apart by group, as in Detectron2 and torchvision, so that large group
    numbers cost no precision.

    Args:
        boxes, scores, iou_threshold: as in `nms_rotated`.
        idxs: (N,) integers, the group of each box.
    Returns:
        (K,) int64 indices of the kept boxes, by decreasing score over all groups.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other.
    """
    _check(boxes, scores, iou_threshold)
    if idxs.shape != scores.shape or idxs.is_floating_point() or idxs.device != boxes.device:
        raise ValueError(
            f"idxs must be {len(boxes)} integers on {boxes.device}, "
            f"got {tuple(idxs.shape)} of {idxs.dtype} on {idxs.device}"
        )
    return torch.ops.d2ext.nms_rotated(boxes, scores, idxs, iou_threshold)


def _check(boxes: Tensor, scores: Tensor, iou_threshold: float) -> None:
    check_rotated_boxes(boxes)
    if scores.shape != boxes.shape[:1] or scores.device != boxes.device:
        raise ValueError(
            f"scores must be ({boxes.shape[0]},) on {boxes.device}, "
            f"got {tuple(scores.shape)} on {scores.device}"
        )
    if not scores.is_floating_point():
        raise ValueError(f"scores must be floats, got {scores.dtype}")
    if not iou_threshold >= 0:  # also true for NaN
        raise ValueError(f"iou_threshold must be 0 or more, got {iou_threshold}")


@torch.library.register_fake("d2ext::nms_rotated")
def _fake(boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float) -> Tensor:
    count = torch.library.get_ctx().new_dynamic_size()  # it depends on the data
    return boxes.new_empty(count, dtype=torch.long)


# The reference's Python loop can't be exported: its length depends on the data.
register_decomposition("nms_rotated", reference.nms_rotated_by_scan)
