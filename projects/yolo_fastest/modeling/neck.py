"""The neck of YOLO-FastestV2: two levels with a class branch and a box branch each.

Source: https://github.com/dog-qiuqiu/Yolo-FastestV2; there is no paper.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2ext.modeling.lookup import get_registered
from d2ext.projects.yolo_fastest.modeling.layers import conv
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone

BRANCHES = ("class", "box")


@BACKBONE_REGISTRY.register()
class LightNeck(Backbone):
    """Features "<level>_class" and "<level>_box" of each level of a backbone.

    A level is computed from itself and the coarser one, upsampled; the coarsest from itself.

    Args:
        bottom_up: the backbone below.
        in_features: names of two or more of its levels, finest first, each of twice the stride of
            the one before.
        channels: channels of every output.
        kernel_size: side of the depthwise kernels; odd.
        norm: a name of `detectron2.layers.get_norm`.
    """

    @configurable
    def __init__(
        self,
        *,
        bottom_up: Backbone,
        in_features: Sequence[str],
        channels: int,
        kernel_size: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.bottom_up, self.in_features = bottom_up, tuple(in_features)
        shapes = bottom_up.output_shape()
        widths = [shapes[name].channels for name in self.in_features]
        above = [*widths[1:], 0]
        self.reduce = nn.ModuleDict(
            {
                name: conv(own + coarser, channels, norm=norm)
                for name, own, coarser in zip(self.in_features, widths, above, strict=True)
            }
        )
        self.branches = nn.ModuleDict(
            {
                f"{name}_{kind}": _branch(channels, kernel_size, norm)
                for name in self.in_features
                for kind in BRANCHES
            }
        )
        self._out_features = list(self.branches)
        self._out_feature_channels = dict.fromkeys(self._out_features, channels)
        self._out_feature_strides = {
            f"{name}_{kind}": shapes[name].stride for name in self.in_features for kind in BRANCHES
        }

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        neck = cfg.MODEL.LIGHT_NECK
        bottom_up = get_registered(BACKBONE_REGISTRY, "MODEL.LIGHT_NECK.BOTTOM_UP", neck.BOTTOM_UP)
        options = {key.lower(): value for key, value in neck.items()}
        return {**options, "bottom_up": bottom_up(cfg, input_shape)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute (B, channels, h, w) features per branch and level of (B, 3, H, W) images."""
        levels = self.bottom_up(images)
        outputs = {}
        for name, coarser in zip(self.in_features, (*self.in_features[1:], None), strict=True):
            level = levels[name]
            if coarser is not None:
                enlarged = F.interpolate(levels[coarser], scale_factor=2.0)
                level = torch.cat((enlarged, level), dim=1)
            level = self.reduce[name](level)
            for kind in BRANCHES:
                outputs[f"{name}_{kind}"] = self.branches[f"{name}_{kind}"](level)
        return outputs

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride, in pixels."""
        return max(self._out_feature_strides.values())


def _branch(channels: int, kernel_size: int, norm: str) -> nn.Sequential:
    """Build a branch: twice a depthwise and a pointwise convolution."""
    layers = []
    for _ in range(2):
        layers += [
            conv(channels, channels, kernel_size=kernel_size, depthwise=True, norm=norm),
            conv(channels, channels, relu=False, norm=norm),
        ]
    return nn.Sequential(*layers)
