"""The dtypes that references compute in."""

from collections.abc import Sequence

import torch
from torch import Tensor


def in_float(tensor: Tensor) -> Tensor:
    """Cast half types to float32; return others unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def pair_like(tensor: Tensor, pair: Sequence[int]) -> Tensor:
    """Return the numbers as a tensor of the dtype and on the device of another.

    Unlike `new_tensor` by operators alone: PyTorch 2.10 loses constants of decompositions.
    """
    return torch.stack([tensor.new_full((), number) for number in pair])
