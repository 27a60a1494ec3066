"""Registry lookup by the names that a config gives."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from d2ext.errors import ConfigError
from detectron2.utils.registry import Registry


def get_registered(registry: Registry, key: str, name: str) -> Callable[..., Any]:
    """Look up `name`, the value of the config's `key`, in a registry.

    Raises:
        ConfigError: nothing is registered by that name.
    """
    if name in registry:
        return registry.get(name)
    known = sorted(other for other, _ in registry)
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{key}: {name!r} is not registered.{hint} Known: {', '.join(known)}.")
