"""The registry behind every extension point: `register_x(key, value)` fills it."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from d2ext.errors import ConfigError
from d2ext.text import did_you_mean

Key = TypeVar("Key")
Value = TypeVar("Value")


class ExtensionRegistry(Generic[Key, Value]):
    """Values by key that d2ext and the plugins of a config add when they are imported.

    Each extension point has one, and next to it a function `register_x(key, value)` whose docstring
    is the contract of a value.

    Args:
        what: a value in the words of messages, such as "dataset mapper".
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._values: dict[Key, Value] = {}

    def register(self, key: Key, value: Value) -> None:
        """Add a value.

        Raises:
            ValueError: the key is taken.
        """
        if key in self._values:
            raise ValueError(f"a {self.what} is registered as {key!r} already")
        self._values[key] = value

    def get(self, key: Key, setting: str) -> Value:
        """Return the value of a key that a user has given.

        Args:
            setting: where the key comes from, such as "DATALOADER.MAPPER".
        Raises:
            ConfigError: nothing is registered under the key; names near and known ones.
        """
        if key in self._values:
            return self._values[key]
        known = sorted(map(str, self._values))
        hint = did_you_mean(str(key), known)
        raise ConfigError(
            f"{setting}: the {self.what} {key!r} is unknown{hint} Known: {', '.join(known)}. "
            "Those of a project are registered by its plugin: name it under PLUGINS."
        )

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[Key]:
        """Iterate over the keys in the order of registration."""
        return iter(self._values)

    def values(self) -> list[Value]:
        """Return all values in the order of registration."""
        return list(self._values.values())
