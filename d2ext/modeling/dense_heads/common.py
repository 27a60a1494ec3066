"""What heads on feature pyramids share."""

from math import log

from torch import Tensor


def flatten_cells(level: Tensor, per_anchor: int) -> Tensor:
    """(B, A * per_anchor, H, W) -> (B, H * W * A, per_anchor), in the order of the anchors."""
    level = level.unflatten(1, (-1, per_anchor))  # (B, A, per_anchor, H, W)
    return level.permute(0, 3, 4, 1, 2).flatten(1, 3)


def prior_bias(probability: float) -> float:
    """The logit that starts a classifier at `probability` (arXiv:1708.02002, section 4.1)."""
    return -log((1 - probability) / probability)
