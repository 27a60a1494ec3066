"""The dtypes that references compute in."""

import torch
from torch import Tensor


def in_float(tensor: Tensor) -> Tensor:
    """Cast half types to float32; return others unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
