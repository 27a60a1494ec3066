"""`InputSize`: what a model makes of the sizes of images and objects."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class InputSize:
    """Size of a model's input, its finest stride and its anchors.

    Args:
        short_side: shorter side of images after resizing, in pixels: the middle one in training.
        long_side: limit of the longer side, in pixels; 0 for no limit.
        stride: of the finest feature map, in pixels.
        anchor_sizes: square roots of the anchors' areas, in pixels; () for a model without anchors.
        anchor_ratios: height by width of the anchors.
    """

    short_side: int
    long_side: int
    stride: int
    anchor_sizes: tuple[float, ...] = ()
    anchor_ratios: tuple[float, ...] = ()

    def scales(self, sizes: Floats) -> Floats:
        """Compute the resize factors, (N,), of images with (N, 2) width and height."""
        short, long = sizes.min(1), sizes.max(1)
        scale = self.short_side / short
        return np.minimum(scale, self.long_side / long) if self.long_side else scale
