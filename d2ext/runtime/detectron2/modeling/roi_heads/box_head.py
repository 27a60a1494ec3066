"""Box heads: the layers between the pooled features and the predictors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from fvcore.nn import weight_init
from torch import nn

from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.utils.registry import Registry

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = ["ROI_BOX_HEAD_REGISTRY", "FastRCNNConvFCHead", "build_box_head"]

ROI_BOX_HEAD_REGISTRY = Registry("ROI_BOX_HEAD")
ROI_BOX_HEAD_REGISTRY.__doc__ = """Box heads by name.

A registered object is called with `(cfg, input_shape: ShapeSpec)`. Its result maps pooled features
(M, C, H, W) to features of each region and has an `output_shape`.
"""


@ROI_BOX_HEAD_REGISTRY.register()
class FastRCNNConvFCHead(nn.Sequential):
    """3x3 convolutions, then linear layers, each with a ReLU: (M, C, H, W) -> (M, features).

    Without linear layers the output is (M, channels, H, W).

    Args:
        input_shape: channels, height and width of the pooled features.
        conv_dims: output channels of each convolution.
        fc_dims: output features of each linear layer.
        conv_norm: normalisation after each convolution, see `get_norm`.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        conv_dims: list[int],
        fc_dims: list[int],
        conv_norm: str = "",
    ) -> None:
        super().__init__()
        if not conv_dims and not fc_dims:
            raise ValueError("a box head needs a layer: MODEL.ROI_BOX_HEAD.NUM_CONV or NUM_FC")
        self._output_size = (input_shape.channels, input_shape.height, input_shape.width)
        # Lists for subclasses of packages, which run the layers themselves.
        self.conv_norm_relus = [
            self._add_conv(i, c, conv_norm) for i, c in enumerate(conv_dims, start=1)
        ]
        self.fcs = [self._add_linear(i, size) for i, size in enumerate(fc_dims, start=1)]
        for conv in self.conv_norm_relus:
            # Initialised after construction, convolutions first: the order of Detectron2's random
            # numbers.
            weight_init.c2_msra_fill(conv)
        for linear in self.fcs:
            weight_init.c2_xavier_fill(linear)

    def _add_conv(self, index: int, channels: int, norm: str) -> Conv2d:
        before, height, width = self._output_size
        conv = Conv2d(
            cast(int, before),
            channels,
            kernel_size=3,
            padding=1,
            bias=not norm,
            norm=get_norm(norm, channels),
            activation=nn.ReLU(),
        )
        self.add_module(f"conv{index}", conv)
        self._output_size = (channels, height, width)
        return conv

    def _add_linear(self, index: int, size: int) -> nn.Linear:
        if index == 1:
            self.add_module("flatten", nn.Flatten())
        linear = nn.Linear(math.prod(cast(tuple[int, ...], self._output_size)), size)
        self.add_module(f"fc{index}", linear)
        self.add_module(f"fc_relu{index}", nn.ReLU())
        self._output_size = (size, 1, 1)
        return linear

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        section = cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "conv_dims": [section.CONV_DIM] * section.NUM_CONV,
            "fc_dims": [section.FC_DIM] * section.NUM_FC,
            "conv_norm": section.NORM,
        }

    @property
    @torch.jit.unused
    def output_shape(self) -> ShapeSpec:
        """Channels of the output; also height and width without linear layers."""
        channels, height, width = self._output_size
        if hasattr(self, "flatten"):
            return ShapeSpec(channels=channels)
        return ShapeSpec(channels=channels, height=height, width=width)


def build_box_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the box head named by `cfg.MODEL.ROI_BOX_HEAD.NAME`."""
    return ROI_BOX_HEAD_REGISTRY.get(cfg.MODEL.ROI_BOX_HEAD.NAME)(cfg, input_shape)
