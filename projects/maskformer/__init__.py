"""MaskFormer and Mask2Former: semantic, instance and panoptic segmentation by sets of masks."""

from d2ext.projects.maskformer import layout, modeling  # noqa: F401  (register)
from d2ext.projects.maskformer.config import add_maskformer_config
from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Add `MODEL.MASK_FORMER`."""
    add_maskformer_config(cfg)
