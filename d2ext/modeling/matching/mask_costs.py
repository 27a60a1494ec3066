"""Costs of matching each target mask with each predicted mask: dice, focal and cross-entropy.

Source: Cheng et al., "MaskFormer", 2021, arXiv:2107.06278, appendix A; "Mask2Former", 2022,
arXiv:2112.01527, section 3.3. Each pair's cost is that of `d2ext.modeling.losses.masks`.
"""

import torch.nn.functional as F
from torch import Tensor

from d2ext.modeling.losses.masks import ALPHA, GAMMA


def pairwise_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the dice loss of all pairs: (Q, P) logits, (T, P) targets in [0, 1] -> (T, Q)."""
    scores = logits.sigmoid()
    overlap = 2 * targets @ scores.mT
    total = targets.sum(1)[:, None] + scores.sum(1)
    return 1 - (overlap + 1) / (total + 1)


def pairwise_focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean focal loss of all pairs: (Q, P) logits, (T, P) targets -> (T, Q)."""
    scores = logits.sigmoid()
    positive = ALPHA * (1 - scores) ** GAMMA * F.softplus(-logits)
    negative = (1 - ALPHA) * scores**GAMMA * F.softplus(logits)
    return (negative.sum(1) + targets @ (positive - negative).mT) / logits.shape[1]


def pairwise_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean binary cross-entropy of all pairs: (Q, P), (T, P) -> (T, Q)."""
    # softplus(x) is the loss of target 0, and softplus(-x) = softplus(x) - x that of target 1.
    return (F.softplus(logits).sum(1) - targets @ logits.mT) / logits.shape[1]
