"""Configs: Detectron2's schema, d2ext's sections and plugins."""

from d2ext.config.load import get_cfg, load_config

__all__ = ["get_cfg", "load_config"]
