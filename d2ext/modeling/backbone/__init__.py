"""Backbones: importing this registers them."""

from d2ext.modeling.backbone.fpn import FPNBackbone
from d2ext.modeling.backbone.resnet import NamedRes5ROIHeads, build_named_resnet_backbone
from d2ext.modeling.backbone.resnet_parts import (
    BlockShape,
    register_block,
    register_stages,
    register_stem,
)
from d2ext.modeling.backbone.swin import SwinTransformer
from d2ext.modeling.backbone.timm import TimmBackbone

__all__ = [
    "BlockShape",
    "FPNBackbone",
    "NamedRes5ROIHeads",
    "SwinTransformer",
    "TimmBackbone",
    "build_named_resnet_backbone",
    "register_block",
    "register_stages",
    "register_stem",
]
