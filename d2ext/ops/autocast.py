"""Autocast for operators that keep some arguments, such as positions, in float32."""

import torch
from torch import Tensor


def cast_to_autocast(tensor: Tensor, device_type: str) -> Tensor:
    """Cast to the autocast dtype of `device_type`, as PyTorch does for a convolution.

    Returns:
        `tensor` itself where autocast is off, and for float64 and integers.
    """
    if not torch.is_autocast_enabled(device_type):
        return tensor
    # PyTorch's own rule: autocast never lowers float64.
    is_cast = tensor.is_floating_point() and tensor.dtype != torch.float64
    return tensor.to(torch.get_autocast_dtype(device_type)) if is_cast else tensor


def cast_convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast the arguments of a convolution to the autocast dtype of their device."""
    kind = input.device.type
    cast_bias = None if bias is None else cast_to_autocast(bias, kind)
    return cast_to_autocast(input, kind), cast_to_autocast(weight, kind), cast_bias
