"""MaskFormer and Mask2Former: semantic, instance and panoptic segmentation by sets of masks."""

from d2ext.projects.maskformer import auto, export, layout, mapper, modeling  # noqa: F401
from d2ext.projects.maskformer.config import add_maskformer_config, add_maskformer_input_config
from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Add `MODEL.MASK_FORMER` and `INPUT.MASK_FORMER`."""
    add_maskformer_config(cfg)
    add_maskformer_input_config(cfg)
