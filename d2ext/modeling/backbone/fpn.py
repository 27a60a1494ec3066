"""A feature pyramid on any registered backbone: P3 to P5 from it, P6 and P7 from P5.

Source: Lin et al., "Feature Pyramid Networks for Object Detection", 2017, arXiv:1612.03144; the two
coarse levels as in RetinaNet, arXiv:1708.02002, but from P5 instead of C5.
"""

from collections.abc import Sequence
from math import log2

import torch
from torch import Tensor

from d2ext.modeling.lookup import registered
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelP6P7


@BACKBONE_REGISTRY.register()
class FPNBackbone(FPN):
    """Detectron2's FPN with two more levels, on the backbone named by `MODEL.FPN.BOTTOM_UP`.

    Args:
        bottom_up: the backbone below.
        in_features: its feature maps to use, finest first; strides double from one to the next.
        out_channels: channels of every level.
        norm: normalisation after each convolution; "" for none.
        fuse_type: "sum" or "avg" of the lateral and the top-down path.
    """

    @configurable
    def __init__(
        self,
        *,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str,
        fuse_type: str,
    ) -> None:
        stride = bottom_up.output_shape()[in_features[-1]].stride
        assert stride is not None
        super().__init__(
            bottom_up=bottom_up,
            in_features=in_features,
            out_channels=out_channels,
            norm=norm,
            top_block=CoarseLevels(out_channels, out_channels, in_feature=f"p{int(log2(stride))}"),
            fuse_type=fuse_type,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        fpn = cfg.MODEL.FPN
        bottom_up = registered(BACKBONE_REGISTRY, "MODEL.FPN.BOTTOM_UP", fpn.BOTTOM_UP)
        return {
            "bottom_up": bottom_up(cfg, input_shape),
            "in_features": fpn.IN_FEATURES,
            "out_channels": fpn.OUT_CHANNELS,
            "norm": fpn.NORM,
            "fuse_type": fpn.FUSE_TYPE,
        }


class CoarseLevels(LastLevelP6P7):
    """P6 and P7, outside autocast: a bfloat16 convolution of stride 2 on a map of one pixel gets a
    partly uninitialised gradient of its weight from oneDNN (seen with torch 2.15 on a CPU).
    """

    def forward(self, feature: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> the two levels above, in the dtype of `feature`."""
        with torch.autocast(feature.device.type, enabled=False):
            levels = super().forward(feature.to(self.p6.weight.dtype))
        return [level.to(feature.dtype) for level in levels]
