"""The type that references compute in."""

import torch
from torch import Tensor


def in_float(tensor: Tensor) -> Tensor:
    """Half types as float32, others as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
