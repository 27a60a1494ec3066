"""Models: importing this registers all of them with Detectron2."""

from d2ext.modeling import anchor_generator, backbone, dense_heads, meta_arch, neck

__all__ = ["anchor_generator", "backbone", "dense_heads", "meta_arch", "neck"]
