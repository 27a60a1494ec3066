"""Modules around the operators."""

from d2ext.layers.deform_conv import DeformConv, ModulatedDeformConv

__all__ = ["DeformConv", "ModulatedDeformConv"]
