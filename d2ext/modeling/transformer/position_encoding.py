"""Sine position encodings of feature maps and of points, and the padding masks they depend on.

Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv:2005.12872,
appendix A.4; Liu et al., "DAB-DETR", 2022, arXiv:2201.12329, section 4.2 (temperature).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 2 * math.pi
# As published; it decides the last digits of every encoding.
NORMALIZER_EPS = 1e-6


class SinePositionEncoding(nn.Module):
    """Sine and cosine of the normalised position in an image's unpadded part, y then x.

    Args:
        channels: width of the encoding; a multiple of 4.
        temperature: base of the geometric progression of wavelengths, for both axes or (y, x).
        half_pixel: positions are the centres of pixels; otherwise their far borders.
    """

    def __init__(
        self,
        channels: int = 256,
        temperature: float | tuple[float, float] = 10000.0,
        half_pixel: bool = False,
    ) -> None:
        super().__init__()
        if channels % 4:
            raise ValueError(f"channels must be a multiple of 4, got {channels}")
        self.channels = channels
        both = temperature if isinstance(temperature, Sequence) else (temperature, temperature)
        self.temperatures = float(both[0]), float(both[1])
        self.half_pixel = half_pixel

    def forward(self, mask: Tensor) -> Tensor:
        """Compute the encoding of every pixel.

        Args:
            mask: (B, H, W) bool, True on padding.
        Returns:
            (B, channels, H, W) float32.
        """
        inside = (~mask).float()
        axes = [
            _sines(self._positions(inside, axis), self.channels // 2, temperature)
            for axis, temperature in zip((1, 2), self.temperatures, strict=True)
        ]
        return torch.cat(axes, dim=-1).permute(0, 3, 1, 2)

    def _positions(self, inside: Tensor, axis: int) -> Tensor:
        """Return the number of unpadded pixels up to each one, normalised to at most 2 pi."""
        counts = inside.cumsum(axis)
        total = counts.narrow(axis, counts.shape[axis] - 1, 1) + NORMALIZER_EPS
        return (counts - 0.5 * self.half_pixel) / total * SCALE


def sine_embedding(
    points: Tensor, channels: int = 128, temperature: float = 10000.0, scale: float = SCALE
) -> Tensor:
    """Compute the sine embedding of points or boxes.

    Args:
        points: (..., 2) x, y or (..., 4) x, y, width, height; normalised.
        channels: numbers per coordinate.
        temperature: base of the geometric progression of wavelengths.
        scale: factor of the coordinates.
    Returns:
        (..., 2 * channels) or (..., 4 * channels), in the order y, x, width, height.
    """
    coordinates = list((points * scale).unbind(-1))
    coordinates[:2] = coordinates[1::-1]
    return torch.cat([_sines(each, channels, temperature) for each in coordinates], dim=-1)


def resize_mask(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a padding mask (B, H, W) to `size` (height, width) by nearest neighbour."""
    return F.interpolate(mask[:, None].float(), size=tuple(size)).squeeze(1).bool()


def _sines(positions: Tensor, channels: int, temperature: float) -> Tensor:
    """Return (..., channels): sine and cosine of `positions` (...), interleaved, by wavelength."""
    pairs = torch.arange(channels // 2, dtype=torch.float32, device=positions.device)
    angles = positions[..., None] / temperature ** (2 * pairs / channels)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)
