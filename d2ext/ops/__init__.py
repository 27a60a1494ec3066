"""Operators: one face each; PyTorch's dispatcher picks a compiled kernel or the plain reference."""

from d2ext.ops.deform_conv2d import deform_conv2d
from d2ext.ops.flat_read import flat_read

__all__ = ["deform_conv2d", "flat_read"]
