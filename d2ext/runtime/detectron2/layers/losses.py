"""IoU losses of pairs of boxes (Zheng et al. 2020, arXiv:1911.08287)."""

from torch import Tensor
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss


def diou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Compute DIoU loss: 1 - IoU + squared centre distance over squared diagonal of the hull.

    Args:
        boxes1, boxes2: (N, 4) XYXY.
        reduction: "none", "mean" (0 if there are no boxes) or "sum".
    """
    return distance_box_iou_loss(boxes1, boxes2, reduction, eps)


def ciou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Compute CIoU loss: `diou_loss` plus a penalty on the difference of the aspect ratios."""
    return complete_box_iou_loss(boxes1, boxes2, reduction, eps)
