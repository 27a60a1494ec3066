"""Configs in Detectron2's schema, extended by d2ext's sections and plugins."""

from d2ext.config.load import get_cfg, load_config
from d2ext.config.rotated import learns_rotated_boxes

__all__ = ["get_cfg", "learns_rotated_boxes", "load_config"]
