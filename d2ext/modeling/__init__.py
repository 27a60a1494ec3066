"""Models: importing this registers all of them with Detectron2."""

from d2ext.modeling import anchor_generator, backbone, dense_heads, meta_arch, neck
from d2ext.modeling.build import build_model

__all__ = ["anchor_generator", "backbone", "build_model", "dense_heads", "meta_arch", "neck"]
