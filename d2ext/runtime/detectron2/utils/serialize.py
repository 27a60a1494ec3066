"""Pickling of objects that plain pickle refuses."""

from collections.abc import Callable
from typing import Any

import cloudpickle

__all__ = ["PicklableWrapper"]


class PicklableWrapper:
    """Wrapper that pickles an object, e.g. a closure, by `cloudpickle`; calls are forwarded."""

    def __init__(self, obj: Any) -> None:
        # Wrapping twice would pickle twice.
        self._obj: Any = obj._obj if isinstance(obj, PicklableWrapper) else obj

    def __reduce__(self) -> tuple[Callable, tuple]:
        return _load, (cloudpickle.dumps(self._obj),)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._obj(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        # Unpickling asks for attributes before `_obj` is set.
        if name == "_obj":
            raise AttributeError(name)
        return getattr(self._obj, name)


def _load(pickled: bytes) -> "PicklableWrapper":
    return PicklableWrapper(cloudpickle.loads(pickled))
