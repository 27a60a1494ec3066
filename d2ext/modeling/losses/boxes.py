"""Box losses of set prediction: L1 and generalised IoU, and the box formats they use.

Source: Rezatofighi et al., "Generalized Intersection over Union", 2019, arXiv:1902.09630.
"""

import torch
from torch import Tensor

# Keeps 0 / 0 finite where both boxes are empty; far below the area of a pixel in normalised units.
TINY_AREA = 1e-12


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Convert (..., 4) boxes from centre and size to their corners, in the same unit."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((center - half, center + half), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Convert (..., 4) boxes from corners to centre and size, in the same unit."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((first + last) / 2, last - first), dim=-1)


def generalized_iou(boxes: Tensor, others: Tensor, eps: float = 0.0) -> Tensor:
    """Compute the generalised IoU of boxes, paired or, by broadcasting, pairwise.

    Args:
        boxes: (..., 4) XYXY.
        others: (..., 4) XYXY in the same unit; broadcast against `boxes`.
        eps: added to the union and to the enclosing area (DINO's published code: 1e-6).
    Returns:
        (...) in [-1, 1].
    """
    inner = (
        torch.minimum(boxes[..., 2:], others[..., 2:])
        - torch.maximum(boxes[..., :2], others[..., :2])
    ).clamp(min=0)
    hull = (
        torch.maximum(boxes[..., 2:], others[..., 2:])
        - torch.minimum(boxes[..., :2], others[..., :2])
    ).clamp(min=0)
    intersection = inner.prod(-1)
    union = (_area(boxes) + _area(others) - intersection).clamp(min=TINY_AREA)
    enclosing = hull.prod(-1).clamp(min=TINY_AREA)
    return intersection / (union + eps) - (enclosing - union) / (enclosing + eps)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)
