"""`CfgNode`, the default config, and `configurable`, which builds objects from a config."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Callable
from typing import IO, Any

from fvcore.common.config import BASE_KEY
from fvcore.common.config import CfgNode as _BaseCfgNode
from omegaconf import DictConfig
from yacs.config import CfgNode as _YacsCfgNode

from detectron2.utils.file_io import PathManager

from .compat import LATEST_VERSION, downgrade_config, guess_version, upgrade_config
from .default_values import DEFAULTS
from .yaml_file import read_yaml_mapping


class CfgNode(_BaseCfgNode):
    """A tree of settings with attribute access; a file may inherit from others by `_BASE_`."""

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        return PathManager.open(filename, "r", encoding="utf-8")

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """Load a YAML file merged over its `_BASE_`, one file or a list in order.

        Args:
            filename, allow_unsafe: as for `merge_from_file`.
        """
        with cls._open_cfg(filename) as f:
            tree = read_yaml_mapping(f, filename, allow_unsafe)
        bases = tree.pop(BASE_KEY, [])
        merged: dict[str, Any] = {}
        for base in [bases] if isinstance(bases, str) else bases:
            path = _base_path(base, filename)
            _lay_over(cls.load_yaml_with_base(path, allow_unsafe), merged, path)
        _lay_over(tree, merged, filename)
        return merged

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = False) -> None:
        """Overwrite values by those of a YAML file and of its `_BASE_` files.

        A file in an older schema is upgraded. Arithmetic under the tag `!!python/object/apply:eval`
        is evaluated, by a parser that can do nothing else.

        Args:
            cfg_filename: path, or anything `PathManager` opens.
            allow_unsafe: let the YAML's Python tags run code. Off, unlike in the official package.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not a mapping, has an unsafe tag, or is in a newer schema.
            KeyError: a key is unknown.
        """
        filename = str(cfg_filename)
        if not PathManager.isfile(filename):
            raise FileNotFoundError(f"Config file '{filename}' does not exist.")
        loaded = self.load_yaml_with_base(filename, allow_unsafe)
        self._merge_any_version(type(self)(loaded), filename)

    def _merge_any_version(self, loaded: CfgNode, filename: str) -> None:
        ours = self.get("VERSION", LATEST_VERSION)
        if ours != LATEST_VERSION:
            raise ValueError(f"{filename}: files are merged into configs of the latest version")
        version = loaded["VERSION"] if "VERSION" in loaded else guess_version(loaded, filename)
        if version > ours:
            raise ValueError(f"{filename}: Cannot merge a v{version} config into a v{ours} config.")
        if version == ours:
            self.merge_from_other_cfg(loaded)
            return
        logging.getLogger(__name__).warning(
            f"Loading an old v{version} config file '{filename}' by upgrading it to v{ours}."
        )
        # A partial file cannot be upgraded alone: merge it in its own schema, then upgrade all.
        old = downgrade_config(self, to_version=version)
        old.merge_from_other_cfg(loaded)
        upgraded = upgrade_config(old)
        self.clear()
        self.update(upgraded)

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Return the config as YAML; arguments are those of `yaml.safe_dump`."""
        return super().dump(*args, **kwargs)


def _base_path(base: str, filename: str) -> str:
    base = os.path.expanduser(base)
    if os.path.isabs(base) or "://" in base:
        return base
    return os.path.join(os.path.dirname(filename), base)


def _lay_over(above: dict[str, Any], below: dict[str, Any], filename: str) -> None:
    """Merge the leaves of `above` into `below`, in place."""
    for key, value in above.items():
        if not isinstance(value, dict) or key not in below:
            below[key] = value
        elif isinstance(below[key], dict):
            _lay_over(value, below[key], filename)
        else:
            raise ValueError(f"{filename}: {key} is a section here and a value in {BASE_KEY}")


# Packages add keys to this very object, through `detectron2.config.defaults`.
_C = CfgNode(DEFAULTS)
global_cfg = CfgNode()


def get_cfg() -> CfgNode:
    """Return a copy of the default config."""
    return _C.clone()


def set_global_cfg(cfg: CfgNode) -> None:
    """Copy the content of `cfg` into `global_cfg`, for experiments that pass no config around."""
    # In place, because modules import the object itself.
    global_cfg.clear()
    global_cfg.update(cfg)


def configurable(
    init_func: Callable | None = None, *, from_config: Callable[..., dict[str, Any]] | None = None
) -> Callable:
    """Allow a constructor or function to be called with a config in place of its arguments.

    On `__init__`, the class has a classmethod `from_config(cls, cfg, ...)` that returns the keyword
    arguments. For a function it is `from_config(cfg, ...)`, passed here. Arguments other than the
    config go to `from_config` if it accepts them; otherwise they override its result.

    Raises:
        TypeError: `init_func` is not an `__init__`, or `from_config` is not a function. On a call:
            `from_config` is not a classmethod, or does not take `cfg` first.
        AttributeError: on a call: the class has no `from_config`.
    """
    if init_func is not None:
        return _configurable_init(init_func, from_config)
    if not inspect.isfunction(from_config):
        raise TypeError("@configurable of a function needs from_config, itself a function.")
    return functools.partial(_configurable_function, from_config=from_config)


def _configurable_init(init_func: Callable, from_config: Callable | None) -> Callable:
    if (
        not inspect.isfunction(init_func)
        or init_func.__name__ != "__init__"
        or from_config is not None
    ):
        raise TypeError("@configurable without arguments goes on a class's __init__ only.")

    @functools.wraps(init_func)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        # The subclass's `from_config`, although the decorated constructor may be inherited.
        translate = _from_config_of(type(self))
        if _has_cfg(args, kwargs):
            args, kwargs = (), _arguments_from_cfg(translate, args, kwargs)
        init_func(self, *args, **kwargs)

    return wrapped


def _from_config_of(cls: type) -> Callable:
    if not hasattr(cls, "from_config"):
        raise AttributeError(f"{cls.__name__} is @configurable, but has no 'from_config'.")
    if not inspect.ismethod(cls.from_config):
        raise TypeError(f"{cls.__name__}.from_config has to be a classmethod.")
    return cls.from_config


def _configurable_function(function: Callable, from_config: Callable) -> Callable:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if _has_cfg(args, kwargs):
            args, kwargs = (), _arguments_from_cfg(from_config, args, kwargs)
        return function(*args, **kwargs)

    wrapped.from_config = from_config  # type: ignore[attr-defined]
    return wrapped


def _has_cfg(args: tuple, kwargs: dict[str, Any]) -> bool:
    candidates = (*args[:1], kwargs.get("cfg"))
    return any(isinstance(candidate, _YacsCfgNode | DictConfig) for candidate in candidates)


def _arguments_from_cfg(from_config: Callable, args: tuple, kwargs: dict[str, Any]) -> dict:
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        raise TypeError(f"{from_config.__qualname__} must take 'cfg' as its first argument.")
    kinds = {parameter.kind for parameter in parameters.values()}
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        return from_config(*args, **kwargs)
    understood = {name: value for name, value in kwargs.items() if name in parameters}
    overrides = {name: value for name, value in kwargs.items() if name not in parameters}
    return {**from_config(*args, **understood), **overrides}
