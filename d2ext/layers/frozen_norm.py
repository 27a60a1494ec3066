"""Batch norms that are fast on CPUs while they are frozen."""

import math

import torch
from torch import Tensor, nn

from d2ext.ops import channel_affine, is_compiled

# The bounds that each activation puts on its input.
ACTIVATION_BOUNDS: dict[type[nn.Module], tuple[float, float]] = {
    nn.Identity: (-math.inf, math.inf),
    nn.ReLU: (0.0, math.inf),
    nn.ReLU6: (0.0, 6.0),
}


class FastFrozenNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that is one pass over memory on CPUs while it is frozen in training.

    It is frozen if it is in evaluation mode and its scale and shift take no gradient. Then
    `d2ext.ops.channel_affine` computes it, activation included, in float32 and bfloat16. All else
    is left to PyTorch: GPUs, inference, exports, and machines without the compiled operator.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        bounds = self.bounds()
        if bounds is None or not self._is_frozen() or not _is_fast(input):
            return super().forward(input)
        return channel_affine(input, *self._scale_and_shift(), *bounds)

    def bounds(self) -> tuple[float, float] | None:
        """Return the bounds of the activation that belongs to the norm; None if it has others."""
        return ACTIVATION_BOUNDS[nn.Identity]

    def _is_frozen(self) -> bool:
        if self.training or not self.affine or self.running_mean is None:
            return False
        return not (self.weight.requires_grad or self.bias.requires_grad)

    def _scale_and_shift(self) -> tuple[Tensor, Tensor]:
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


def _is_fast(input: Tensor) -> bool:
    if torch.jit.is_tracing() or torch.compiler.is_exporting() or not torch.is_grad_enabled():
        return False
    # Other memory orders would be copied.
    is_channels_last = input.is_contiguous(memory_format=torch.channels_last)
    is_fast = input.dtype in (torch.float32, torch.bfloat16) and is_channels_last
    return is_fast and input.device.type == "cpu" and is_compiled("channel_affine")
