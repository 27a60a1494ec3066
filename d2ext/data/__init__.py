"""Data sets, their checks and loaders. Importing it registers "shapes_train" and "shapes_val"."""

from d2ext.data.coco import register_coco
from d2ext.data.repair import write_faults
from d2ext.data.shapes import register_shapes

__all__ = ["register_coco", "write_faults"]

register_shapes()
