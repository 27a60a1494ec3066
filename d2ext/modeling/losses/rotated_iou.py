"""The IoU loss of rotated boxes.

Source: Zhou et al., "IoU Loss for 2D/3D Object Detection", 2019, arXiv:1908.03851, section 3.
"""

from torch import Tensor

from d2ext.ops import matched_iou_rotated


def rotated_iou_loss(predicted: Tensor, target: Tensor, reduction: str = "none") -> Tensor:
    """Compute 1 - IoU of each pair, with exact gradients; none for disjoint or identical pairs.

    Args:
        predicted: (N, 5) XYWHA, see `d2ext.ops.box_iou_rotated`.
        target: (N, 5), as `predicted`.
        reduction: "none", "mean" (0 if there are no boxes) or "sum".
    Returns:
        (N,) or a scalar.
    Raises:
        ValueError: shapes, dtypes or devices do not fit, or there is no such reduction.
    """
    loss = 1 - matched_iou_rotated(predicted, target)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.sum() / max(len(loss), 1)
    raise ValueError(f'reduction must be "none", "mean" or "sum", got {reduction!r}')
