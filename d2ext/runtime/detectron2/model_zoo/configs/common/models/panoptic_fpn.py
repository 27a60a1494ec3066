"""Panoptic FPN: Mask R-CNN and a semantic head with COCO's 53 stuff classes and one for things."""

from detectron2.config import LazyCall
from detectron2.layers import ShapeSpec
from detectron2.modeling import PanopticFPN
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from .mask_rcnn_fpn import model

_channels = "${....backbone.out_channels}"

model._target_ = PanopticFPN
model.sem_seg_head = LazyCall(SemSegFPNHead)(
    input_shape={
        f"p{level}": LazyCall(ShapeSpec)(channels=_channels, stride=2**level)
        for level in (2, 3, 4, 5)
    },
    num_classes=54,
    conv_dims=128,
    common_stride=4,
    loss_weight=0.5,
    ignore_value=255,
    norm="GN",
)
