"""Operators: one face each; PyTorch's dispatcher picks a compiled kernel or the plain reference."""

from d2ext.ops.deform_conv2d import deform_conv2d
from d2ext.ops.extension import load_extension
from d2ext.ops.flat_read import flat_read
from d2ext.ops.ms_deform_attn import ms_deform_attn
from d2ext.ops.sigmoid_focal_loss import sigmoid_focal_loss

__all__ = ["EXTENSION_STATE", "deform_conv2d", "flat_read", "ms_deform_attn", "sigmoid_focal_loss"]

EXTENSION_STATE = load_extension()  # one line for the head of a log
