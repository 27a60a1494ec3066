"""Kernels that add up in no fixed order say so where PyTorch asks for determinism."""

import warnings

import torch
from torch import Tensor


def alert_not_deterministic(operator: str, tensor: Tensor) -> None:
    """Refuse, or warn, as PyTorch does for its own operators.

    Raises:
        RuntimeError: `torch.use_deterministic_algorithms(True)` is in force.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return
    message = (
        f"{operator} on {tensor.device.type} adds up gradients in no fixed order, so that two runs "
        "differ in the last bits. Compute on the CPU, or allow it by "
        "torch.use_deterministic_algorithms(True, warn_only=True)."
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, stacklevel=2)
