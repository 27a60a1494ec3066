"""Reference implementations of all operators in plain PyTorch.

They are what to read first, what kernels are tested against, and what runs where none was built.
"""

from d2ext.ops.reference.box_iou_rotated import (
    box_iou_rotated,
    box_iou_rotated_at_once,
    box_iou_rotated_backward,
    matched_iou_rotated,
    matched_iou_rotated_backward,
)
from d2ext.ops.reference.channel_affine import channel_affine, channel_affine_backward
from d2ext.ops.reference.deform_conv2d import (
    deform_conv2d,
    deform_conv2d_backward,
    deform_conv2d_by_grid_sample,
)
from d2ext.ops.reference.depthwise_conv2d import depthwise_conv2d, depthwise_conv2d_backward
from d2ext.ops.reference.ms_deform_attn import (
    ms_deform_attn,
    ms_deform_attn_backward,
    ms_deform_attn_by_grid_sample,
)
from d2ext.ops.reference.nms_rotated import nms_rotated, nms_rotated_by_scan
from d2ext.ops.reference.roi_align import (
    MOST_SAMPLES,
    roi_align,
    roi_align_backward,
    roi_align_by_gathers,
    roi_align_rotated_backward,
)
from d2ext.ops.reference.rotated_corners import rotated_corners, rotated_corners_backward
from d2ext.ops.reference.sigmoid_focal_loss import (
    sigmoid_focal_loss,
    sigmoid_focal_loss_backward,
)
from d2ext.ops.reference.winograd_conv2d import winograd_conv2d, winograd_conv2d_backward

__all__ = [
    "MOST_SAMPLES",
    "box_iou_rotated",
    "box_iou_rotated_at_once",
    "box_iou_rotated_backward",
    "channel_affine",
    "channel_affine_backward",
    "deform_conv2d",
    "deform_conv2d_backward",
    "deform_conv2d_by_grid_sample",
    "depthwise_conv2d",
    "depthwise_conv2d_backward",
    "matched_iou_rotated",
    "matched_iou_rotated_backward",
    "ms_deform_attn",
    "ms_deform_attn_backward",
    "ms_deform_attn_by_grid_sample",
    "nms_rotated",
    "nms_rotated_by_scan",
    "roi_align",
    "roi_align_backward",
    "roi_align_by_gathers",
    "roi_align_rotated_backward",
    "rotated_corners",
    "rotated_corners_backward",
    "sigmoid_focal_loss",
    "sigmoid_focal_loss_backward",
    "winograd_conv2d",
    "winograd_conv2d_backward",
]
