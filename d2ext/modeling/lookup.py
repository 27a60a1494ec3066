"""Registry lookup by the names that a config gives."""

from collections.abc import Callable
from typing import Any

from d2ext.errors import ConfigError
from d2ext.text import did_you_mean
from detectron2.utils.registry import Registry


def get_registered(registry: Registry, key: str, name: str) -> Callable[..., Any]:
    """Look up `name`, the value of the config's `key`, in a registry.

    Raises:
        ConfigError: nothing is registered by that name.
    """
    if name in registry:
        return registry.get(name)
    known = sorted(other for other, _ in registry)
    hint = did_you_mean(name, known)
    raise ConfigError(f"{key}: {name!r} is not registered{hint} Known: {', '.join(known)}.")
