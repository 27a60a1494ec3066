"""Backbones: importing this registers them."""

from d2ext.modeling.backbone.fpn import FPNBackbone
from d2ext.modeling.backbone.swin import SwinTransformer
from d2ext.modeling.backbone.timm import TimmBackbone

__all__ = ["FPNBackbone", "SwinTransformer", "TimmBackbone"]
