"""Mask R-CNN C4, whose heads share the last stage of ResNet."""

from detectron2.config import LazyCall
from detectron2.layers import ShapeSpec
from detectron2.modeling import GeneralizedRCNN, ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead, Res5ROIHeads

from ..data.constants import constants  # noqa: F401  (part of the config)
from .parts import FROZEN, anchors, pixels, pooler, predictor, resnet, rpn, sampling

_channels, _size = "${...res5.out_channels}", "${...pooler.output_size}"
_shape = LazyCall(ShapeSpec)

model = LazyCall(GeneralizedRCNN)(
    backbone=resnet(["res4"]),
    proposal_generator=rpn(
        ["res4"],
        anchors([[32, 64, 128, 256, 512]], [16]),
        {"in_channels": 1024, "num_anchors": 15},
        pre_nms_topk=(12000, 6000),
        post_nms_topk=(2000, 1000),
    ),
    roi_heads=LazyCall(Res5ROIHeads)(
        **sampling(),
        in_features=["res4"],
        pooler=pooler(14, scales=[1 / 16]),
        res5=LazyCall(ResNet.make_stage)(
            block_class=BottleneckBlock,
            num_blocks=3,
            stride_per_block=[2, 1, 1],
            in_channels=1024,
            bottleneck_channels=512,
            out_channels=2048,
            norm=FROZEN,
            stride_in_1x1=True,
        ),
        box_predictor=predictor(_shape(channels=_channels, height=1, width=1)),
        mask_head=LazyCall(MaskRCNNConvUpsampleHead)(
            input_shape=_shape(channels=_channels, width=_size, height=_size),
            num_classes="${..num_classes}",
            conv_dims=[256],
        ),
    ),
    **pixels(),
)
