"""Placeholders for objects that need a package that is not installed."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

__all__ = ["create_dummy_class", "create_dummy_func"]


def _message(name: str, dependency: str | Sequence[str], message: str) -> str:
    names = dependency if isinstance(dependency, str) else ",".join(dependency)
    return f"Cannot import '{names}', therefore '{name}' is not available. {message}".rstrip()


def create_dummy_class(klass: str, dependency: str, message: str = "") -> type:
    """Create a class `klass` that raises ImportError when it or one of its attributes is used."""
    error = _message(klass, dependency, message)

    class _DummyMetaClass(type):
        def __getattr__(cls, name: str) -> NoReturn:
            raise ImportError(error)

    class _Dummy(metaclass=_DummyMetaClass):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ImportError(error)

    return _Dummy


def create_dummy_func(
    func: str, dependency: str | Sequence[str], message: str = ""
) -> Callable[..., NoReturn]:
    """Create a function `func` that raises ImportError when it is called."""
    error = _message(func, dependency, message)

    def _dummy(*args: Any, **kwargs: Any) -> NoReturn:
        raise ImportError(error)

    return _dummy
