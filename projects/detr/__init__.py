"""The DETR family: detectors that predict a set of objects from queries, without anchors or NMS."""

from d2ext.projects.detr import auto, export, layout, mapper, modeling  # noqa: F401  (register)
from d2ext.projects.detr.config import add_detr_config
from d2ext.projects.detr.deformable_config import add_deformable_detr_config, add_dino_config
from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Add the sections of the family, `MODEL.DETR` first."""
    add_detr_config(cfg)
    add_deformable_detr_config(cfg)
    add_dino_config(cfg)
