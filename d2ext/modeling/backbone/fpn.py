"""A feature pyramid on any registered backbone: P3 to P5 from it, P6 and P7 from P5 or C5.

Source: Lin et al., "Feature Pyramid Networks for Object Detection", 2017, arXiv:1612.03144; the two
coarse levels as in RetinaNet, arXiv:1708.02002 (from C5), or FCOS, arXiv:1904.01355 (from P5).
"""

from collections.abc import Sequence
from math import log2

import torch
from fvcore.nn.weight_init import c2_xavier_fill
from torch import Tensor, nn

from d2ext.errors import ConfigError
from d2ext.modeling.lookup import get_registered
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool


@BACKBONE_REGISTRY.register()
class FPNBackbone(FPN):
    """Detectron2's FPN with coarser levels, on the backbone named by `MODEL.FPN.BOTTOM_UP`.

    Args:
        bottom_up: the backbone below.
        in_features: the feature maps to use, finest first; strides double from one to the next.
        out_channels: channels of every level.
        norm: norm after each convolution; "" for none.
        fuse_type: "sum" or "avg" of the lateral and the top-down path.
        top_levels: number of coarser levels, 0 to 2.
        top_feature: the feature map of the backbone that the first of them is computed from; ""
            for the coarsest level below.
        top_pool: one coarser level of every second element of P5 instead, as R-CNN's have it.
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
        top_levels: int,
        top_feature: str,
        top_pool: bool,
    ) -> None:
        if top_levels not in (0, 1, 2):
            raise ConfigError(f"MODEL.FPN.TOP_LEVELS: {top_levels} is none of 0, 1, 2")
        shapes = bottom_up.output_shape()
        stride, width = shapes[in_features[-1]].stride, out_channels
        assert stride is not None
        if top_feature:
            width = _channels(shapes, top_feature)
        source = top_feature or f"p{int(log2(stride))}"
        top_block: nn.Module | None = LastLevelMaxPool() if top_pool else None
        if top_levels and not top_pool:
            top_block = CoarseLevels(width, out_channels, source, top_levels)
        super().__init__(
            bottom_up=bottom_up,
            in_features=in_features,
            out_channels=out_channels,
            norm=norm,
            top_block=top_block,
            fuse_type=fuse_type,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        fpn = cfg.MODEL.FPN
        bottom_up = get_registered(BACKBONE_REGISTRY, "MODEL.FPN.BOTTOM_UP", fpn.BOTTOM_UP)
        options = {key.lower(): value for key, value in fpn.items()}
        return {**options, "bottom_up": bottom_up(cfg, input_shape)}


class CoarseLevels(nn.Module):
    """The coarse levels P6 and P7: strided convolutions on top of a pyramid.

    Args:
        in_channels: channels of the feature below.
        out_channels: channels of each level.
        in_feature: name of the feature below, for `FPN`.
        num_levels: 1 for P6, 2 for both.
    """

    def __init__(
        self, in_channels: int, out_channels: int, in_feature: str, num_levels: int
    ) -> None:
        super().__init__()
        self.in_feature, self.num_levels = in_feature, num_levels
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = None
        if num_levels == 2:
            self.p7 = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        for level in self.children():
            c2_xavier_fill(level)

    def forward(self, feature: Tensor) -> list[Tensor]:
        """Compute the levels above (B, C, H, W) features, in the dtype of `feature`."""
        # Outside autocast: on a map of one pixel a bfloat16 convolution of stride 2 gets a partly
        # uninitialised gradient of its weight from oneDNN (seen with torch 2.15, CPU).
        with torch.autocast(feature.device.type, enabled=False):
            levels = [self.p6(feature.to(self.p6.weight.dtype))]
            if self.p7 is not None:
                levels.append(self.p7(levels[0].relu()))
        return [level.to(feature.dtype) for level in levels]


def _channels(shapes: dict[str, ShapeSpec], name: str) -> int:
    if name not in shapes:
        raise ConfigError(f"MODEL.FPN.TOP_FEATURE: {name!r} is none of {', '.join(shapes)}")
    return int(shapes[name].channels or 0)
