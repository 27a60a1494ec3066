"""The registry of backbones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

from .backbone import Backbone

if TYPE_CHECKING:
    from detectron2.config import CfgNode

BACKBONE_REGISTRY = Registry("BACKBONE")
BACKBONE_REGISTRY.__doc__ = """Backbones by name.

A registered object is called with `(cfg, input_shape: ShapeSpec)` and returns a `Backbone`.
"""


def build_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """Build the backbone named by `cfg.MODEL.BACKBONE.NAME`.

    Args:
        input_shape: shape of the images; by default with the channels of `cfg.MODEL.PIXEL_MEAN`.
    """
    if input_shape is None:
        input_shape = ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    backbone = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg, input_shape)
    if not isinstance(backbone, Backbone):
        raise TypeError(f"{cfg.MODEL.BACKBONE.NAME} gave a {type(backbone).__name__}, no Backbone")
    return backbone
