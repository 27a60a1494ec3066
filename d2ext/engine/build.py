"""Errors of building a run, in the words of the config."""

from collections.abc import Iterator
from contextlib import contextmanager

from d2ext.errors import ConfigError


@contextmanager
def explained_build() -> Iterator[None]:
    """Turn what constructors raise for values that do not fit into a `ConfigError`."""
    try:
        yield
    except (ValueError, KeyError, AssertionError) as error:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        raise ConfigError(
            f"what this config describes cannot be built: {text} "
            "(D2EXT_TRACEBACK=1 in the environment shows where)."
        ) from error
