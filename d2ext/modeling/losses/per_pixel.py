"""Cross-entropy per pixel with mining of hard pixels.

Source: Yang et al., "DeeperLab", 2019, arXiv:1902.05093, section 3.2 (bootstrapped cross-entropy).
"""

import torch.nn.functional as F
from torch import Tensor


def hard_pixel_cross_entropy(
    logits: Tensor, labels: Tensor, fraction: float, ignore_value: int
) -> Tensor:
    """Compute the mean cross-entropy of the pixels of the largest loss.

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W) int64.
        fraction: part of all pixels that is kept. At 1 the mean is over labelled pixels.
        ignore_value: label of pixels without a class; their loss is 0.
    Returns:
        A scalar.
    """
    loss = F.cross_entropy(logits, labels, ignore_index=ignore_value, reduction="none").flatten()
    if fraction >= 1:
        return loss.sum() / (labels != ignore_value).sum().clamp(min=1)  # 0 / 0 without any
    return loss.topk(int(fraction * loss.numel())).values.mean()
