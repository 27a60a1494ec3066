"""Layers: `nn.Module`s around the operators."""

from d2ext.layers.deform_conv import DeformConv, ModulatedDeformConv
from d2ext.layers.deform_conv_pack import DeformConvPack
from d2ext.layers.depthwise_conv import DepthwiseConv2d, is_depthwise, is_plain_depthwise
from d2ext.layers.frozen_norm import ACTIVATION_BOUNDS, FastFrozenNorm
from d2ext.layers.ms_deform_attn import MultiScaleDeformableAttention
from d2ext.layers.roi_align import ROIAlign, ROIAlignRotated

__all__ = [
    "ACTIVATION_BOUNDS",
    "DeformConv",
    "DeformConvPack",
    "DepthwiseConv2d",
    "FastFrozenNorm",
    "ModulatedDeformConv",
    "MultiScaleDeformableAttention",
    "ROIAlign",
    "ROIAlignRotated",
    "is_depthwise",
    "is_plain_depthwise",
]
