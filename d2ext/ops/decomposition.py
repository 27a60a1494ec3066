"""Operators in terms of PyTorch's own, for exporters and compilers that know no others."""

from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload

_TABLE: dict[OpOverload, Callable[..., Any]] = {}


def register_decomposition(name: str, function: Callable[..., Any]) -> None:
    """Let `function`, made of ATen operators with ONNX counterparts, stand for d2ext::`name`."""
    _TABLE[getattr(torch.ops.d2ext, name).default] = function


def decompositions() -> dict[OpOverload, Callable[..., Any]]:
    """A table for `torch.export.ExportedProgram.run_decompositions`, core ATen included.

    `torch.export.export(model, inputs).run_decompositions(decompositions())` is a program that runs
    without d2ext, and that `torch.onnx.export` takes.
    """
    return {
        **torch.export.default_decompositions(),
        **_TABLE,
        # `new_tensor` leaves it behind, and a decomposed graph may change nothing in place.
        torch.ops.aten.detach_.default: torch.ops.aten.alias.default,
    }
