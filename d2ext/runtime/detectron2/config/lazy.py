"""Lazy configs: Python files whose calls are recorded, edited and instantiated later."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import logging
import os
import re
import sys
from collections.abc import Mapping
from types import CodeType, ModuleType
from typing import Any

import cloudpickle
import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf, SCMode

from detectron2.utils.file_io import PathManager
from detectron2.utils.registry import _convert_target_to_string

from .instantiate import _dumped
from .python_text import python_text

__all__ = ["LazyCall", "LazyConfig"]

_OBJECTS = {"allow_objects": True}  # omegaconf's flag that allows values of any type


class LazyCall:
    """A recorded call: `LazyCall(nn.Conv2d)(in_channels=3, ...)`.

    Calling it with keyword arguments returns a `DictConfig` of these and "_target_", which can be
    edited and then passed to `instantiate`.

    Args:
        target: a callable, its dotted name, or a recorded call that returns one.

    Raises:
        TypeError: `target` is none of these.
    """

    def __init__(self, target: Any) -> None:
        if not (callable(target) or isinstance(target, str | Mapping)):
            raise TypeError(f"LazyCall wants a callable or what defines one, got {target!r}")
        self._target = target

    def __call__(self, **kwargs: Any) -> DictConfig:
        target = self._target
        if dataclasses.is_dataclass(target):  # omegaconf would treat it as the schema of a value
            target = _name(target)
        content: dict[Any, Any] = {**kwargs, "_target_": target}
        return DictConfig(content, flags=_OBJECTS)


class LazyConfig:
    """Loader, editor and writer of lazy configs.

    A lazy config is a Python program, and loading it runs it: load only files that you trust.
    Relative imports in it, and `load_rel`, run the other config files anew each time, so that no
    file sees the edits of another one.
    """

    @staticmethod
    def load(
        filename: str,
        keys: str | tuple[str, ...] | None = None,
        allow_unsafe: bool = False,
    ) -> Any:
        """Load a `.py` file by running it, or a `.yaml` file as written by `save`.

        Args:
            filename: a path, or anything `PathManager` opens.
            keys: the name of one value, or a tuple of names. By default everything that is a
                mapping or a config and whose name has no leading underscore, in one `DictConfig`.
            allow_unsafe: let a YAML file's Python tags run code; off, unlike in the official
                package. Names of functions and classes that are imported already are read anyway.

        Raises:
            ValueError: another kind of file, a YAML that is not a mapping, or an unsafe tag.
            SyntaxError, FileNotFoundError, ImportError: from running the file.
            KeyError: a key does not exist.
        """
        filename = str(filename)
        values: Any
        if filename.endswith(".py"):
            values = _run(filename)
        elif filename.endswith((".yaml", ".yml")):
            values = _read_yaml(filename, allow_unsafe)
        else:
            raise ValueError(f"Config file {filename} has to be a python or yaml file.")
        if isinstance(keys, str):
            return _as_config(values[keys])
        if keys is not None:
            return tuple(_as_config(values[key]) for key in keys)
        if isinstance(values, DictConfig):
            return values
        shown = {
            name: _as_config(value)
            for name, value in values.items()
            if isinstance(value, DictConfig | ListConfig | dict) and not name.startswith("_")
        }
        return DictConfig(shown, flags=_OBJECTS)

    @staticmethod
    def load_rel(filename: str, keys: str | tuple[str, ...] | None = None) -> Any:
        """Load a path relative to the file of the caller; see `load`."""
        caller = sys._getframe(1).f_globals.get("__file__")
        if caller is None:
            raise ImportError(f"load_rel({filename!r}) has to be called from a file")
        return LazyConfig.load(os.path.join(os.path.dirname(caller), filename), keys)

    @staticmethod
    def save(cfg: Any, filename: str) -> None:
        """Save a config as YAML, with functions and classes by name.

        Objects that YAML cannot hold, such as lambdas, are pickled to `<filename>.pkl`.
        """
        logger = logging.getLogger(__name__)
        try:
            # A wide line keeps short lists on one line.
            text = yaml.dump(_plain(cfg), default_flow_style=None, allow_unicode=True, width=9999)
            with PathManager.open(filename, "w", encoding="utf-8") as f:
                f.write(text)
            # Read it back, so that a config that cannot be loaded is found now.
            _load_yaml(text, filename, allow_unsafe=True)
        except Exception as error:
            logger.error(f"The config cannot be loaded from {filename}, pickling it: {error}")
            with PathManager.open(filename + ".pkl", "wb") as f:
                cloudpickle.dump(cfg, f)
            logger.warning(f"Config is saved using cloudpickle at {filename}.pkl.")

    @staticmethod
    def apply_overrides(cfg: DictConfig, overrides: list[str]) -> DictConfig:
        """Override values of `cfg` in place by strings "key.of.section=value".

        Values are YAML: `3`, `1e-4`, `true`, `null`, `[1, 2]`, `{a: 1}`, text, `"3"` for text that
        looks like something else, `${other.key}`. A key that is new is added; hydra's `+` and `++`
        before it are allowed.

        Returns:
            `cfg`.

        Raises:
            ValueError: an override without "=".
            KeyError: a key leads through a value that is not a section.
            NotImplementedError: a deletion, `~key`.
        """
        for override in overrides:
            key, value = _parse_override(override)
            _check_parents(cfg, key)
            OmegaConf.update(cfg, key, value, merge=True, force_add=True)
        return cfg

    @staticmethod
    def to_py(cfg: Any, prefix: str = "cfg.") -> str:
        """Return the config as Python-like text, for reading only.

        Args:
            prefix: start of every line.
        """
        resolved = OmegaConf.to_container(
            cfg, resolve=True, structured_config_mode=SCMode.INSTANTIATE
        )
        return python_text(_with_names(resolved, only_targets=False), prefix)


def _as_config(value: Any) -> Any:
    return DictConfig(value, flags=_OBJECTS) if isinstance(value, dict) else value


def _run(filename: str) -> dict[str, Any]:
    """Run a config file and return its globals."""
    module = {
        "__name__": f"detectron2_lazy_config.{os.path.basename(filename)[:-3]}",
        "__file__": filename,
        # Import statements of this file look `__import__` up here: no other file is affected.
        "__builtins__": {**vars(builtins), "__import__": _import},
    }
    exec(_compiled(filename), module)
    return module


def _compiled(filename: str) -> CodeType:
    with PathManager.open(filename, "r", encoding="utf-8") as f:
        source = f.read()
    try:
        return compile(ast.parse(source, filename), filename, "exec")
    except SyntaxError as error:
        raise SyntaxError(f"Config file {filename} has a syntax error: {error}") from error


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: tuple[str, ...] = (),
    level: int = 0,
) -> ModuleType:
    importer = (globals or {}).get("__file__")
    if level == 0 or importer is None:
        return builtins.__import__(name, globals, locals, fromlist, level)
    module = ModuleType(name)
    for key, value in _run(_relative_path(importer, name, level)).items():
        setattr(module, key, _as_config(value) if not key.startswith("__") else value)
    return module


def _relative_path(importer: str, name: str, level: int) -> str:
    statement = f"{importer}: relative import of '{'.' * level}{name}'"
    if name == "":
        raise ImportError(f"{statement}: import values from a file, not files from a directory")
    folder = os.path.dirname(importer)
    for _ in range(level - 1):
        folder = os.path.dirname(folder)
    path = os.path.join(folder, *name.split(".")) + ".py"
    if not PathManager.isfile(path):
        raise ImportError(f"{statement}: the file {path} does not exist")
    return path


def _read_yaml(filename: str, allow_unsafe: bool) -> DictConfig:
    with PathManager.open(filename, "r", encoding="utf-8") as f:
        return OmegaConf.create(_load_yaml(f.read(), filename, allow_unsafe), flags=_OBJECTS)


def _load_yaml(text: str, filename: str, allow_unsafe: bool) -> dict[str, Any]:
    try:
        tree = yaml.load(text, yaml.UnsafeLoader if allow_unsafe else yaml.FullLoader)
    except yaml.constructor.ConstructorError as error:
        raise ValueError(
            f"{filename}: {error.problem}. Such a tag can run code: describe the call under "
            "_target_, or pass allow_unsafe=True for a file that you trust."
        ) from error
    if not isinstance(tree, dict):
        raise ValueError(f"{filename}: a config is a mapping, this file is {type(tree).__name__}")
    return tree


def _plain(cfg: Any) -> Any:
    container = OmegaConf.to_container(
        cfg, resolve=False, structured_config_mode=SCMode.INSTANTIATE
    )
    return _with_names(container, only_targets=True)


def _with_names(value: Any, only_targets: bool) -> Any:
    """Replace dataclasses by config nodes and callables by names: all or only "_target_"."""
    value = _dumped(value)
    if isinstance(value, list):
        return [_with_names(item, only_targets) for item in value]
    if isinstance(value, dict):
        return {
            key: _with_names(item, only_targets and key != "_target_")
            for key, item in value.items()
        }
    return value if only_targets else _name(value)


def _name(target: Any) -> Any:
    named = callable(target) and hasattr(target, "__qualname__") and hasattr(target, "__module__")
    return _convert_target_to_string(target) if named else target


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if key.startswith("~"):
        raise NotImplementedError(f"{override}: deletion is not a supported override")
    if not equals:
        raise ValueError(f"{override}: an override is written key=value")
    if text == "":
        return key.lstrip("+"), ""
    if text[0] in "[{":
        # Hydra needs no space after a colon, YAML does.
        text = re.sub(r"([{,]\s*[\w.]+):(?=\S)", r"\1: ", text)
    value = OmegaConf.from_dotlist([f"value={text}"])
    return key.lstrip("+"), OmegaConf.to_container(value, resolve=False)["value"]  # type: ignore


def _check_parents(cfg: DictConfig, key: str) -> None:
    parts = key.split(".")
    for end in range(1, len(parts)):
        parent = ".".join(parts[:end])
        value = OmegaConf.select(cfg, parent, default=None)
        if value is None:
            return
        if not OmegaConf.is_config(value):
            raise KeyError(
                f"Trying to update key {key}, but {parent} is no section: its value is {value!r}"
            )
