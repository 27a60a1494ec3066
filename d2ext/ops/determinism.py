"""The alert of nondeterministic kernels under `torch.use_deterministic_algorithms`."""

import warnings

import torch
from torch import Tensor


def alert_not_deterministic(operator: str, tensor: Tensor) -> None:
    """Raise or warn, as PyTorch does for its own nondeterministic operators.

    Args:
        operator: what the message calls the computation.
        tensor: its device is named in the message.
    Raises:
        RuntimeError: `torch.use_deterministic_algorithms(True)` is in force.
    """
    # In Python: the stable ABI that the kernels are built on has no `alertNotDeterministic`.
    if not torch.are_deterministic_algorithms_enabled():
        return
    message = (
        f"{operator} on {tensor.device.type} sums gradients in no fixed order, so two runs differ "
        "in the last bits. Compute on the CPU, or allow it with "
        "torch.use_deterministic_algorithms(True, warn_only=True)."
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, stacklevel=2)
