"""The focal loss of dense heads.

Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, arXiv:1708.02002, section 3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from d2ext.ops import sigmoid_focal_loss


def dense_focal_loss(
    logits: Sequence[Tensor], positive: Tensor, classes: Tensor, alpha: float, gamma: float
) -> Tensor:
    """Sum the focal loss over all cells, level by level.

    Args:
        logits: per level, (B, A_l, num_classes).
        positive: (B, A) bool, where A counts through the levels; the others are background.
        classes: (P,) int64 classes of the positive ones, in order.
        alpha, gamma: see `d2ext.ops.sigmoid_focal_loss`.
    """
    background = logits[0].shape[-1]
    targets = torch.full_like(positive, background, dtype=torch.int64)
    targets[positive] = classes
    # Level by level: logits of all cells in one tensor would double the memory of this step.
    levels = zip(logits, targets.split([level.shape[1] for level in logits], 1), strict=True)
    return torch.stack([sigmoid_focal_loss(*level, alpha, gamma, "sum") for level in levels]).sum()
