"""Every operator in plain PyTorch: to read, to test kernels against, and where none was built."""

from d2ext.ops.reference.deform_conv2d import (
    bilinear_corners,
    deform_conv2d,
    deform_conv2d_backward,
    deform_conv2d_by_grid_sample,
    sampling_positions,
)
from d2ext.ops.reference.ms_deform_attn import (
    ms_deform_attn,
    ms_deform_attn_backward,
    ms_deform_attn_by_grid_sample,
)
from d2ext.ops.reference.sigmoid_focal_loss import (
    sigmoid_focal_loss,
    sigmoid_focal_loss_backward,
)

__all__ = [
    "bilinear_corners",
    "deform_conv2d",
    "deform_conv2d_backward",
    "deform_conv2d_by_grid_sample",
    "ms_deform_attn",
    "ms_deform_attn_backward",
    "ms_deform_attn_by_grid_sample",
    "sampling_positions",
    "sigmoid_focal_loss",
    "sigmoid_focal_loss_backward",
]
