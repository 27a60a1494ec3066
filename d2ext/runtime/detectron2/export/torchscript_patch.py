"""Patches that hold while a model is traced or scripted."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

from torch import nn

from .scripted_instances import patch_instances

__all__ = ["freeze_training_mode", "patch_builtin_len", "patch_instances"]


def _traced_len(obj: Any) -> Any:
    """Return `len(obj)`, as a tensor if it is being traced: the builtin makes it a constant."""
    return obj.__len__()


@contextlib.contextmanager
def patch_builtin_len(modules: Sequence[str] = ()) -> Iterator[None]:
    """Keep lengths in the graph, in all modules of `detectron2` and those named in `modules`."""
    with contextlib.ExitStack() as stack:
        for name, module in [*sys.modules.items()]:
            # A global of the module hides the builtin there, and nowhere else.
            if name.startswith("detectron2.") or name in modules:
                stack.enter_context(mock.patch.object(module, "len", _traced_len, create=True))
        yield


@contextlib.contextmanager
def freeze_training_mode(model: nn.Module) -> Iterator[None]:
    """Make `training` a constant of all layers, so that TorchScript omits the other branch."""
    with contextlib.ExitStack() as stack:
        for kind in {type(layer) for layer in model.modules()}:
            constants = [*getattr(kind, "__constants__", ()), "training"]
            stack.enter_context(mock.patch.object(kind, "__constants__", constants, create=True))
        yield
