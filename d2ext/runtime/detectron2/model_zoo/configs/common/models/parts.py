"""Parts shared by the models in this folder; each call returns a new description."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import LazyCall
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN, FastRCNNOutputLayers, ResNet, StandardROIHeads
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone import BasicStem
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import FastRCNNConvFCHead, MaskRCNNConvUpsampleHead

from ..data.constants import constants

PYRAMID = ["p2", "p3", "p4", "p5"]
FROZEN = "FrozenBN"


def pixels(image_format: str = "BGR") -> dict[str, Any]:
    """Return the input normalisation, as arguments of a meta-architecture."""
    name = f"imagenet_{image_format.lower()}256"
    mean, std = constants[f"{name}_mean"], constants[f"{name}_std"]
    return {"pixel_mean": mean, "pixel_std": std, "input_format": image_format}


def resnet(out_features: Sequence[str]) -> Any:
    return LazyCall(ResNet)(
        stem=LazyCall(BasicStem)(in_channels=3, out_channels=64, norm=FROZEN),
        stages=LazyCall(ResNet.make_default_stages)(depth=50, stride_in_1x1=True, norm=FROZEN),
        out_features=list(out_features),
    )


def resnet_fpn() -> Any:
    return LazyCall(FPN)(
        bottom_up=resnet(["res2", "res3", "res4", "res5"]),
        in_features="${.bottom_up.out_features}",
        out_channels=256,
        top_block=LazyCall(LastLevelMaxPool)(),
    )


def anchors(sizes: Sequence[Sequence[float]], strides: Sequence[int]) -> Any:
    return LazyCall(DefaultAnchorGenerator)(
        sizes=sizes, aspect_ratios=[0.5, 1.0, 2.0], strides=strides, offset=0.0
    )


def box_transform(*weights: float) -> Any:
    return LazyCall(Box2BoxTransform)(weights=weights)


def matcher(thresholds: Sequence[float], labels: Sequence[int], low_quality: bool) -> Any:
    return LazyCall(Matcher)(
        thresholds=thresholds, labels=labels, allow_low_quality_matches=low_quality
    )


def rpn(in_features: Sequence[str], anchor_generator: Any, head: dict, **topk: Any) -> Any:
    """Build the region proposal network.

    Args:
        head: arguments of `StandardRPNHead`.
        topk: `pre_nms_topk` and `post_nms_topk`, each as (training, test).
    """
    return LazyCall(RPN)(
        in_features=list(in_features),
        head=LazyCall(StandardRPNHead)(**head),
        anchor_generator=anchor_generator,
        anchor_matcher=matcher([0.3, 0.7], [0, -1, 1], True),
        box2box_transform=box_transform(1.0, 1.0, 1.0, 1.0),
        batch_size_per_image=256,
        positive_fraction=0.5,
        nms_thresh=0.7,
        **topk,
    )


def pyramid_rpn() -> Any:
    sizes = [[32], [64], [128], [256], [512]]
    return rpn(
        [*PYRAMID, "p6"],
        anchors(sizes, [4, 8, 16, 32, 64]),
        {"in_channels": 256, "num_anchors": 3},
        pre_nms_topk=(2000, 1000),
        post_nms_topk=(1000, 1000),
    )


def pooler(size: int, scales: Sequence[float] = (1 / 4, 1 / 8, 1 / 16, 1 / 32)) -> Any:
    return LazyCall(ROIPooler)(
        output_size=size, scales=scales, sampling_ratio=0, pooler_type="ROIAlignV2"
    )


def sampling(classes: int = 80) -> dict[str, Any]:
    """Return the sampling of proposals, as arguments of ROI heads."""
    return {
        "num_classes": classes,
        "batch_size_per_image": 512,
        "positive_fraction": 0.25,
        "proposal_matcher": matcher([0.5], [0, 1], False),
    }


def predictor(input_shape: Any, *weights: float, **options: Any) -> Any:
    return LazyCall(FastRCNNOutputLayers)(
        input_shape=input_shape,
        test_score_thresh=0.05,
        box2box_transform=box_transform(*(weights or (10, 10, 5, 5))),
        num_classes="${..num_classes}",
        **options,
    )


def box_head() -> Any:
    return LazyCall(FastRCNNConvFCHead)(
        input_shape=ShapeSpec(channels=256, height=7, width=7), conv_dims=[], fc_dims=[1024, 1024]
    )


def mask_branch() -> dict[str, Any]:
    return {
        "mask_in_features": PYRAMID,
        "mask_pooler": pooler(14),
        "mask_head": LazyCall(MaskRCNNConvUpsampleHead)(
            input_shape=ShapeSpec(channels=256, width=14, height=14),
            num_classes="${..num_classes}",
            conv_dims=[256] * 5,
        ),
    }


def pyramid_roi_heads(classes: int = 80, **branches: Any) -> Any:
    return LazyCall(StandardROIHeads)(
        **sampling(classes),
        box_in_features=PYRAMID,
        box_pooler=pooler(7),
        box_head=box_head(),
        box_predictor=predictor(ShapeSpec(channels=1024)),
        **branches,
    )
