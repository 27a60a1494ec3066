"""Configs in Detectron2's schema, extended by d2ext's sections and plugins."""

from d2ext.config.load import get_cfg, load_config

__all__ = ["get_cfg", "load_config"]
