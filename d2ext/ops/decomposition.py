"""Decompositions of d2ext's operators into ATen operators, for exporters and compilers."""

from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload

_TABLE: dict[OpOverload, Callable[..., Any]] = {}


def register_decomposition(name: str, function: Callable[..., Any]) -> None:
    """Register the decomposition of d2ext::`name`.

    Args:
        name: an operator without its namespace.
        function: takes the operator's arguments and uses only ATen operators that exist in ONNX.
    """
    _TABLE[getattr(torch.ops.d2ext, name).default] = function


def decompositions() -> dict[OpOverload, Callable[..., Any]]:
    """Return the decompositions of d2ext's operators and those of core ATen.

    `torch.export.export(model, inputs).run_decompositions(decompositions())` returns a program that
    runs without d2ext and that `torch.onnx.export` accepts.
    """
    return {
        **torch.export.default_decompositions(),
        **_TABLE,
        # Tracing `new_tensor` records it, but a decomposed graph must not hold in-place operators.
        torch.ops.aten.detach_.default: torch.ops.aten.alias.default,
    }
