"""Configs: Detectron2's schema, d2ext's sections, plugins and `auto` values."""

from d2ext.config.auto import Machine, Reasoned, inherit_auto, register_auto, resolve_auto
from d2ext.config.load import get_cfg, load_config

__all__ = [
    "Machine",
    "Reasoned",
    "get_cfg",
    "inherit_auto",
    "load_config",
    "register_auto",
    "resolve_auto",
]
