"""Models: importing this registers all of them with Detectron2."""

from d2ext.modeling import backbone, dense_heads, meta_arch, neck

__all__ = ["backbone", "dense_heads", "meta_arch", "neck"]
