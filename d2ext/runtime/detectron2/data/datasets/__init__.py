"""Loaders and registration of data sets, and those known by name."""

from .coco import (
    convert_to_coco_json,
    load_coco_json,
    load_sem_seg,
    register_coco_instances,
)

from . import builtin  # isort: skip  # registers the built-in names

__all__ = [
    "builtin",
    "convert_to_coco_json",
    "load_coco_json",
    "load_sem_seg",
    "register_coco_instances",
]
