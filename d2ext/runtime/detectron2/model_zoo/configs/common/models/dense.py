"""Parts shared by RetinaNet and FCOS: the pyramid P3 to P7 and the head's shape."""

from typing import Any

from detectron2.config import LazyCall
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN
from detectron2.modeling.backbone.fpn import LastLevelP6P7

from .parts import resnet

LEVELS = ["p3", "p4", "p5", "p6", "p7"]


def pyramid(**top_block: Any) -> Any:
    """Build the FPN on res3 to res5; `top_block` are arguments of `LastLevelP6P7`."""
    return LazyCall(FPN)(
        bottom_up=resnet(["res3", "res4", "res5"]),
        in_features=["res3", "res4", "res5"],
        out_channels=256,
        top_block=LazyCall(LastLevelP6P7)(out_channels="${..out_channels}", **top_block),
    )


def head(kind: type, **options: Any) -> Any:
    return LazyCall(kind)(
        input_shape=[ShapeSpec(channels=256)] * len(LEVELS),
        num_classes="${..num_classes}",
        conv_dims=[256] * 4,
        prior_prob=0.01,
        **options,
    )


def shared(**options: Any) -> dict[str, Any]:
    """Return the arguments of both meta-architectures."""
    return {
        "head_in_features": LEVELS,
        "num_classes": 80,
        "focal_loss_alpha": 0.25,
        "focal_loss_gamma": 2.0,
        **options,
    }
