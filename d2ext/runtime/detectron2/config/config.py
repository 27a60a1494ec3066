"""`CfgNode`, the default config, and `configurable`, which lets a class be built from either."""

import functools
import inspect
from collections.abc import Callable
from typing import IO, Any

import yaml
from fvcore.common.config import CfgNode as _BaseCfgNode
from yacs.config import CfgNode as _YacsCfgNode

from detectron2.utils.file_io import PathManager

LATEST_VERSION = 2


class CfgNode(_BaseCfgNode):
    """A tree of settings with attribute access; a file may inherit another by `_BASE_`."""

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        return PathManager.open(filename, "r", encoding="utf-8")

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = False) -> None:
        """Overwrite values by those of a YAML file and of the files it is based on.

        Args:
            cfg_filename: path, or anything `PathManager` opens.
            allow_unsafe: let the YAML's Python tags run code. Off, unlike in the official package.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file wants code to be run, or is in a schema older than version 2.
            KeyError: a key is unknown.
        """
        filename = str(cfg_filename)
        if not PathManager.isfile(filename):
            raise FileNotFoundError(f"Config file '{filename}' does not exist.")
        try:
            loaded = self.load_yaml_with_base(filename, allow_unsafe=allow_unsafe)
        except yaml.constructor.ConstructorError as error:
            raise ValueError(
                f"{filename}: {error.problem}. Such a tag can run code when it is loaded: write "
                "the value out, or pass allow_unsafe=True for a file that you trust."
            ) from error
        _require_latest_version(loaded, filename)
        self.merge_from_other_cfg(type(self)(loaded))


def _require_latest_version(loaded: dict[str, Any], filename: str) -> None:
    # Before versions were written down, the weights' key was in the singular.
    guess = 1 if "WEIGHT" in loaded.get("MODEL", {}) else LATEST_VERSION
    version = loaded.get("VERSION", guess)
    if version != LATEST_VERSION:
        raise ValueError(
            f"{filename}: a config of version {version}; version {LATEST_VERSION} is read. Rename "
            f"its keys to those of detectron2.config.get_cfg() and say VERSION: {LATEST_VERSION}."
        )


global_cfg = CfgNode()


def get_cfg() -> CfgNode:
    """A copy of the default config."""
    from .defaults import _C

    return _C.clone()


def set_global_cfg(cfg: CfgNode) -> None:
    """Give `global_cfg` the content of `cfg`, for experiments that pass no config around."""
    global_cfg.clear()
    global_cfg.update(cfg)


def configurable(
    init_func: Callable | None = None, *, from_config: Callable[..., dict[str, Any]] | None = None
) -> Callable:
    """Let a constructor or a function be called with a config in place of its arguments.

    On `__init__`, the class has a classmethod `from_config(cls, cfg, ...)` that returns the keyword
    arguments. On a function, that is `from_config(cfg, ...)`, given here. Arguments beside the
    config go to `from_config` where it takes them, else they override what it returns.

    Raises:
        TypeError: `init_func` is no `__init__`, or `from_config` is no function; on a call:
            `from_config` is no classmethod, or does not take `cfg` first.
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
    return any(isinstance(candidate, _YacsCfgNode) for candidate in candidates)


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
