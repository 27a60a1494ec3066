"""Operators: checked Python functions whose kernels PyTorch's dispatcher picks.

Each is defined by `torch.library`. A compiled kernel runs where one is loaded for the tensor's
device, otherwise the plain PyTorch of `d2ext.ops.reference`.
"""

from d2ext.ops.box_iou_rotated import box_iou_rotated, matched_iou_rotated
from d2ext.ops.channel_affine import channel_affine
from d2ext.ops.deform_conv2d import deform_conv2d
from d2ext.ops.deform_conv2d_levels import deform_conv2d_levels
from d2ext.ops.depthwise_conv2d import depthwise_conv2d
from d2ext.ops.extension import is_compiled, load_extension
from d2ext.ops.flat_read import flat_read
from d2ext.ops.ms_deform_attn import ms_deform_attn
from d2ext.ops.nms_rotated import batched_nms_rotated, nms_rotated
from d2ext.ops.roi_align import roi_align, roi_align_rotated
from d2ext.ops.rotated_corners import rotated_corners
from d2ext.ops.sigmoid_focal_loss import sigmoid_focal_loss
from d2ext.ops.winograd_conv2d import winograd_conv2d

__all__ = [
    "EXTENSION_STATE",
    "batched_nms_rotated",
    "box_iou_rotated",
    "channel_affine",
    "deform_conv2d",
    "deform_conv2d_levels",
    "depthwise_conv2d",
    "flat_read",
    "is_compiled",
    "matched_iou_rotated",
    "ms_deform_attn",
    "nms_rotated",
    "roi_align",
    "roi_align_rotated",
    "rotated_corners",
    "sigmoid_focal_loss",
    "winograd_conv2d",
]

# After the imports above, which define the schemas that the compiled kernels are registered to.
EXTENSION_STATE = load_extension()  # one line, for the first lines of a log
