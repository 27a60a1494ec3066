"""Inputs of operators in unusual memory, and what rounding may change."""

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def unaligned(tensor: Tensor) -> Tensor:
    """Return a copy in the same memory order that starts one element after where vectors may."""
    order = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
    dense = tensor.detach().permute(order).contiguous()
    shifted = torch.cat((dense.flatten()[:1], dense.flatten()))[1:].view(dense.shape)
    return shifted.permute([order.index(axis) for axis in range(tensor.ndim)])


def assert_rounds_to(found: Tensor, exact: Tensor, dtype: torch.dtype, roundings: float) -> None:
    """Check that errors relative to the largest number are a few roundings of a dtype."""
    error = (found.double() - exact.double()).abs().max() / exact.double().abs().max()
    assert error < roundings * torch.finfo(dtype).eps
