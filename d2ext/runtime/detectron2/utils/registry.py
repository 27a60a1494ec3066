"""Registries, and lookup of objects by dotted name."""

import pydoc
from typing import Any

from fvcore.common.registry import Registry

__all__ = ["Registry", "locate"]


def locate(name: str) -> Any:
    """Import the object of a dotted name, e.g. "torch.nn.modules.conv.Conv2d".

    Raises:
        ImportError: the name cannot be imported.
    """
    found = pydoc.locate(name)
    if found is None:
        raise ImportError(f"Cannot locate '{name}': no such module, or no such name in it.")
    return found


def _convert_target_to_string(t: Any) -> str:
    """Return the shortest dotted name by which `locate` finds a class or function."""
    parts = t.__module__.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join([*parts[:end], t.__qualname__])
        if pydoc.locate(name) is t:
            return name
    return f"{t.__module__}.{t.__qualname__}"
