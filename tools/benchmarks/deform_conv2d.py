"""Deformable convolution compared with torchvision's, and with a plain one as the limit."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from benchmarks.measure import Problem
from benchmarks.problems import register_problems
from d2ext.ops import deform_conv2d

CHANNELS = 256
# Batch, height, width: an 800x1216 image's finer levels, then those of the built-in set; goals.
SIZES = {
    (1, 50, 76): (5, 8),
    (1, 100, 152): (5, 8),
    (8, 20, 20): (None, None),
    (8, 5, 5): (None, None),
}


def problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Yield one problem per size."""
    for size, goals in SIZES.items():
        yield problem(size, device, dtype, goals)


def problem(
    size: tuple[int, int, int],
    device: torch.device,
    dtype: torch.dtype,
    goals: tuple[float | None, float | None] = (None, None),
) -> Problem:
    """Build a problem of version 2 with a 3x3 kernel and random offsets.

    Args:
        size: batch, height and width.
        goals: least ratio to the peer, forward and with backward.
    """
    batch, height, width = size
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).to(device, dtype)

    tensors = [
        normal(batch, CHANNELS, height, width),
        normal(batch, 18, height, width),
        normal(CHANNELS, CHANNELS, 3, 3) / 50,
        normal(CHANNELS),
        normal(batch, 9, height, width).sigmoid(),
    ]
    return Problem(
        title=f"deform_conv2d v2, {CHANNELS} to {CHANNELS}, 3x3, {batch}x{height}x{width}",
        inputs=[tensor.requires_grad_() for tensor in tensors],
        ways={"d2ext": d2ext_way, "torchvision": torchvision_way, "plain convolution": plain_way},
        peer="torchvision",
        goals=goals,
    )


def d2ext_way(input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """Call the operator with all its checks, as users do."""
    return deform_conv2d(input, offset, weight, bias, padding=1, mask=mask)


def torchvision_way(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor
) -> Tensor:
    """Call torchvision's operator, in float32 for bfloat16, which it does not support."""
    dtype = torch.float32 if input.dtype == torch.bfloat16 else input.dtype
    first, *others, factors = (tensor.to(dtype) for tensor in (input, offset, weight, bias, mask))
    return torchvision.ops.deform_conv2d(first, *others, padding=1, mask=factors).to(input.dtype)


def plain_way(input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """Call a convolution of the same shape that is not deformable."""
    return F.conv2d(input, weight, bias, padding=1)


register_problems("ops", "deform_conv2d", problems)
