"""IoU and GIoU of boxes given by the distances from a location to their sides.

Source: Tian et al., 2019, arXiv:1904.01355, section 3.1; Rezatofighi et al., "Generalized
Intersection over Union", 2019, arXiv:1902.09630.
"""

import torch
from torch import Tensor


def ltrb_iou(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Compute IoU and generalised IoU of pairs of boxes around the same location.

    Args:
        predicted: (N, 4) left, top, right, bottom, not negative, in strides.
        target: (N, 4), as `predicted`.
    Returns:
        (N,) and (N,).
    """
    # Both boxes contain the location, so that their overlap is between the nearer sides and their
    # hull between the farther ones.
    inner = torch.minimum(predicted, target)
    hull = _area(torch.maximum(predicted, target))
    intersection = _area(inner)
    union = _area(predicted) + _area(target) - intersection
    # Both areas of the IoU are enlarged by one, as in the published models.
    iou = (intersection + 1) / (union + 1)
    return iou, iou - (hull - union) / hull


def _area(distances: Tensor) -> Tensor:
    return (distances[:, 0] + distances[:, 2]) * (distances[:, 1] + distances[:, 3])
