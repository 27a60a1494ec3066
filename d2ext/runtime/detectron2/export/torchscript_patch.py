"""Changes that hold while a model is traced."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

__all__ = ["patch_builtin_len"]


def _traced_len(obj: Any) -> Any:
    """`len`, but a tensor where the length of one is traced: the builtin makes it a constant."""
    return obj.__len__()


@contextlib.contextmanager
def patch_builtin_len(modules: Sequence[str] = ()) -> Iterator[None]:
    """Keep lengths in the graph, in all modules of `detectron2` and those named in `modules`."""
    with contextlib.ExitStack() as stack:
        for name, module in [*sys.modules.items()]:
            if name.startswith("detectron2.") or name in modules:
                stack.enter_context(mock.patch.object(module, "len", _traced_len, create=True))
        yield
