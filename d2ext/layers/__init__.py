"""Modules around the operators."""

from d2ext.layers.deform_conv import DeformConv, ModulatedDeformConv
from d2ext.layers.deform_conv_pack import DeformConvPack

__all__ = ["DeformConv", "DeformConvPack", "ModulatedDeformConv"]
