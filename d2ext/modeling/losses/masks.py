"""Mask losses of set prediction: dice, focal and cross-entropy, one value per mask.

Source: Milletari et al., "V-Net", 2016, arXiv:1606.04797 (dice); Lin et al., "Focal Loss for Dense
Object Detection", 2017, arXiv:1708.02002.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.ops import sigmoid_focal_loss

ALPHA, GAMMA = 0.25, 2.0


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the dice loss of (M, P) mask logits with (M, P) targets in [0, 1]: (M,).

    Both parts of the ratio are enlarged by 1, as published, so that empty masks agree.
    """
    scores = logits.sigmoid()
    overlap = 2 * (scores * targets).sum(1)
    return 1 - (overlap + 1) / (scores.sum(1) + targets.sum(1) + 1)


def mask_focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean focal loss over the pixels of each of (M, P) masks: (M,)."""
    pairs = zip(logits, targets.to(logits.dtype), strict=True)
    sums = [sigmoid_focal_loss(*pair, ALPHA, GAMMA, "sum") for pair in pairs]
    return torch.stack(sums) / logits.shape[1] if sums else logits.sum(1)


def mask_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean binary cross-entropy over the pixels of each of (M, P) masks: (M,)."""
    loss = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    return loss.mean(1)
