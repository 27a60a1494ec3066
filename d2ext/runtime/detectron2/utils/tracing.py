"""Checks inside models that `torch.fx` traces."""

import torch
from torch import Tensor
from torch.fx import _symbolic_trace

__all__ = ["assert_fx_safe", "is_fx_tracing"]


def is_fx_tracing() -> bool:
    """Return whether `torch.fx` or `torch.export` is tracing: sizes may be proxies then."""
    return _symbolic_trace.is_fx_tracing()


def assert_fx_safe(condition: bool, message: str) -> Tensor:
    """Assert a condition, except while tracing, when proxies have no value yet.

    Args:
        condition: a value, not text, which would have to be executed.
        message: message of the error.

    Returns:
        (1,) float32: 1 for a condition that holds, 0 for one that was not checked.

    Raises:
        AssertionError: the condition does not hold.
        TypeError: the condition is text.
    """
    if is_fx_tracing():
        return torch.zeros(1)
    if isinstance(condition, str):
        raise TypeError(f"assert_fx_safe runs no text: pass the condition, not '{condition}'.")
    if not condition:
        raise AssertionError(message)
    return torch.ones(1)
