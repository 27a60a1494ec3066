"""GridMask: a regular grid of squares of the training images is blanked.

Source: Chen et al., "GridMask Data Augmentation", 2020, arXiv:2001.04086.
"""

import torch
from torch import Tensor, nn


class GridMask(nn.Module):
    """Blanks a quarter of all images of a batch alike, with a probability, in training.

    Args:
        probability: share of the batches that are masked.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if not self.training or torch.rand(()) >= self.probability:
            return images
        height, width = images.shape[-2:]
        period = int(torch.randint(2, max(height, 3), ()))
        # On the CPU, so that a run draws the same masks on every device.
        rows, columns = _stripes(height, period), _stripes(width, period)
        return images * (rows[:, None] | columns).to(images.device)


def _stripes(size: int, period: int) -> Tensor:
    """Return (size,) bool: stripes of half the period that start at a random offset."""
    offset = int(torch.randint(0, period, ()))
    width = min(max((period + 1) // 2, 1), period - 1)
    return (torch.arange(size) - offset) % period < width
