"""State-dict extraction: the tensors among the content of a checkpoint file."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

NESTED = ("model", "state_dict", "model_state", "blobs")  # keys that hold the state dict


def extract_state_dict(content: dict[str, Any]) -> dict[str, Tensor]:
    """Remove the tensors from the content of a file and return them by name.

    They are under one of the keys `NESTED`, or at the top. The prefix "module." of
    DistributedDataParallel is dropped.
    """
    nested = [content.pop(key) for key in NESTED if isinstance(content.get(key), dict)]
    values = nested[0] if nested else content
    names = [name for name, value in values.items() if _is_tensor(value)]
    weights = {name: _as_tensor(values.pop(name)) for name in names}
    if not all(name.startswith("module.") for name in weights):
        return weights
    return {name.removeprefix("module."): tensor for name, tensor in weights.items()}


def _is_tensor(value: Any) -> bool:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.kind in "biuf"
    return isinstance(value, Tensor)


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    # torch takes neither arrays of the other byte order nor read-only ones.
    native = value.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(value, native, requirements=["C", "W"]))
