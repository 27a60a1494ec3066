"""Instantiation of objects from config nodes that describe calls."""

import collections.abc as abc
import dataclasses
import logging
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from detectron2.utils.registry import _convert_target_to_string, locate

__all__ = ["dump_dataclass", "instantiate"]


def dump_dataclass(obj: Any) -> dict[str, Any]:
    """Convert a dataclass to the config node from which `instantiate` rebuilds it.

    Raises:
        TypeError: `obj` is not an instance of a dataclass.
    """
    if not dataclasses.is_dataclass(obj) or isinstance(obj, type):
        raise TypeError(f"dump_dataclass wants an instance of a dataclass, got {obj!r}")
    return {
        "_target_": _convert_target_to_string(type(obj)),
        **{field.name: _dumped(getattr(obj, field.name)) for field in dataclasses.fields(obj)},
    }


def _dumped(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_dumped(item) for item in value]
    return dump_dataclass(value) if dataclasses.is_dataclass(value) else value


def instantiate(cfg: Any) -> Any:
    """Instantiate the object that `cfg` describes, its arguments first.

    Whatever `_target_` names is called: instantiate only configs that you trust.

    Args:
        cfg: a mapping with "_target_", a callable or its dotted name, and keyword arguments, which
            may themselves be such mappings or lists of them. Anything else is returned as it is.

    Raises:
        TypeError: the target is not callable, or not with these arguments.
        ImportError: the target's name cannot be imported.
    """
    if isinstance(cfg, ListConfig):
        return ListConfig([instantiate(item) for item in cfg], flags={"allow_objects": True})
    if isinstance(cfg, list):
        return [instantiate(item) for item in cfg]
    if isinstance(cfg, DictConfig) and dataclasses.is_dataclass(OmegaConf.get_type(cfg)):
        return OmegaConf.to_object(cfg)
    if not isinstance(cfg, abc.Mapping) or "_target_" not in cfg:
        return cfg
    arguments = {key: instantiate(value) for key, value in cfg.items()}
    target = arguments.pop("_target_")
    return _call(locate(target) if isinstance(target, str) else target, arguments)


def _call(target: Any, arguments: dict[str, Any]) -> Any:
    if not callable(target):
        raise TypeError(f"_target_ has to be a callable or the name of one, got {target!r}")
    try:
        return target(**arguments)
    except TypeError:
        name = getattr(target, "__qualname__", target)
        module = getattr(target, "__module__", "?")
        logging.getLogger(__name__).error(f"Error when instantiating {module}.{name}!")
        raise
