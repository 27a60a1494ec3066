"""What a model checks for itself when `torch.fx` traces it."""

import torch
from torch import Tensor
from torch.fx import _symbolic_trace

__all__ = ["assert_fx_safe", "is_fx_tracing"]


def is_fx_tracing() -> bool:
    """Whether `torch.fx` or `torch.export` is tracing: sizes and lengths may be proxies then."""
    return _symbolic_trace.is_fx_tracing()


def assert_fx_safe(condition: bool, message: str) -> Tensor:
    """Assert, except while tracing, when a condition on proxies has no value yet.

    Args:
        condition: text is not accepted, as it would have to be run.
        message: of the error.

    Returns:
        (1,) float32: 1 for a condition that holds, 0 for one that was not looked at.

    Raises:
        AssertionError: the condition does not hold.
        TypeError: it is text.
    """
    if is_fx_tracing():
        return torch.zeros(1)
    if isinstance(condition, str):
        raise TypeError(f"assert_fx_safe runs no text: pass the condition, not '{condition}'.")
    if not condition:
        raise AssertionError(message)
    return torch.ones(1)
