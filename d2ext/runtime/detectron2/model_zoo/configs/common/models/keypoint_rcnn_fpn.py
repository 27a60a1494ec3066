"""Keypoint R-CNN on a feature pyramid, for the class person."""

from detectron2.config import LazyCall
from detectron2.layers import ShapeSpec
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import KRCNNConvDeconvUpsampleHead

from .parts import PYRAMID, pixels, pooler, pyramid_roi_heads, pyramid_rpn, resnet_fpn

model = LazyCall(GeneralizedRCNN)(
    backbone=resnet_fpn(),
    proposal_generator=pyramid_rpn(),
    roi_heads=pyramid_roi_heads(
        classes=1,
        keypoint_in_features=PYRAMID,
        keypoint_pooler=pooler(14),
        keypoint_head=LazyCall(KRCNNConvDeconvUpsampleHead)(
            input_shape=ShapeSpec(channels=256, width=14, height=14),
            num_keypoints=17,
            conv_dims=[512] * 8,
            loss_normalizer="visible",
        ),
    ),
    **pixels(),
)
# One class has fewer proposals that are foreground: take more, and bend the loss for closer boxes.
model.proposal_generator.post_nms_topk = (1500, 1000)
model.roi_heads.box_predictor.smooth_l1_beta = 0.5
