"""An affine map of each channel with bounds, in plain PyTorch."""

import torch
from torch import Tensor

from d2ext.ops.reference.floats import in_float


def channel_affine(input: Tensor, scale: Tensor, shift: Tensor, low: float, high: float) -> Tensor:
    """Return `input * scale + shift` within the bounds; shapes as in `d2ext.ops`."""
    mapped = in_float(input) * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
    return in_channels_last(mapped.clamp(low, high).to(input.dtype))


def channel_affine_backward(
    grad_output: Tensor, output: Tensor, scale: Tensor, low: float, high: float
) -> Tensor:
    """Return the gradient of the input: 0 where the output is at a bound."""
    grad = in_float(grad_output) * scale.view(1, -1, 1, 1)
    at_bound = (output <= low) | (output >= high)
    return in_channels_last(grad.masked_fill(at_bound, 0).to(output.dtype))


def in_channels_last(maps: Tensor) -> Tensor:
    """Return (B, C, H, W) maps in channels-last memory."""
    return maps.contiguous(memory_format=torch.channels_last)
