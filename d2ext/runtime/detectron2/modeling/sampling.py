"""Random sampling of labelled boxes for training."""

import torch
from torch import Tensor

__all__ = ["subsample_labels"]


def subsample_labels(
    labels: Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[Tensor, Tensor]:
    """Sample positives and negatives at random.

    Args:
        labels: (N,); -1 is ignored, `bg_label` negative, everything else positive.
        num_samples: number of samples; fewer are returned only if there are not enough.
        positive_fraction: maximum fraction of positives in `num_samples`.

    Returns:
        Indices of the sampled positives and negatives.
    """
    # The positives are drawn first, as in Detectron2: a seed gives the same samples.
    negative = (labels == bg_label).nonzero().flatten()
    positive = ((labels != bg_label) & (labels != -1)).nonzero().flatten()
    num_positive = min(len(positive), int(num_samples * positive_fraction))
    num_negative = min(len(negative), num_samples - num_positive)
    return _draw(positive, num_positive), _draw(negative, num_negative)


def _draw(indices: Tensor, count: int) -> Tensor:
    return indices[torch.randperm(len(indices), device=indices.device)[:count]]
