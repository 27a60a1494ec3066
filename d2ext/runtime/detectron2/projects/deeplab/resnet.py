"""ResNet with dilated last stages and optionally a stem of three small convolutions."""

from typing import Any

from fvcore.nn import weight_init
from torch import Tensor
from torch.nn import functional as F

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.resnet import (
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
    ResNet,
    configured_resnet,
)

__all__ = ["DeepLabStem", "build_resnet_deeplab_backbone"]

_BLOCKS_PER_STAGE = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class DeepLabStem(CNNBlockBase):
    """Stem of three 3x3 convolutions, the first of stride 2, and 3x3 max pooling: stride 4.

    Args:
        out_channels: channels of the last convolution; the others have half as many.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 128, norm: str = "BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        half = out_channels // 2
        self.conv1 = _conv(in_channels, half, norm, stride=2)
        self.conv2 = _conv(half, half, norm, stride=1)
        self.conv3 = _conv(half, out_channels, norm, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu_(conv(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


def _conv(in_channels: int, out_channels: int, norm: str, stride: int) -> Conv2d:
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=3,
        stride=stride,
        padding=1,
        bias=False,
        norm=get_norm(norm, out_channels),
    )
    weight_init.c2_msra_fill(conv)
    return conv


@BACKBONE_REGISTRY.register()
def build_resnet_deeplab_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build a ResNet from `cfg.MODEL.RESNETS` with DeepLab's keys.

    Raises:
        ValueError: a depth, stem or dilation is not supported.
    """
    section = cfg.MODEL.RESNETS
    _check_section(section)
    stem_class = {"basic": BasicStem, "deeplab": DeepLabStem}[section.STEM_TYPE]
    stem = stem_class(input_shape.channels, section.STEM_OUT_CHANNELS, section.NORM)
    return configured_resnet(cfg, stem, _stage)


def _check_section(section: CfgNode) -> None:
    choices = {
        "DEPTH": list(_BLOCKS_PER_STAGE),
        "STEM_TYPE": ["basic", "deeplab"],
        "RES4_DILATION": [1, 2],
        "RES5_DILATION": [2, 4] if section.RES4_DILATION == 2 else [1, 2, 4],
    }
    for key, known in choices.items():
        if section[key] not in known:
            raise ValueError(
                f"MODEL.RESNETS.{key} is one of {', '.join(map(str, known))}, got {section[key]}"
            )


def _stage(section: CfgNode, index: int, in_channels: int, out_channels: int) -> list[CNNBlockBase]:
    num_blocks = _BLOCKS_PER_STAGE[section.DEPTH][index]
    dilation = {2: section.RES4_DILATION, 3: section.RES5_DILATION}.get(index, 1)
    dilations = [dilation] * num_blocks
    if index == 3:
        dilations = [dilation * factor for factor in section.RES5_MULTI_GRID]
    options: dict[str, Any] = {
        "stride_per_block": [1 if index == 0 or dilation > 1 else 2] + [1] * (num_blocks - 1),
        "dilation_per_block": dilations,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "bottleneck_channels": section.NUM_GROUPS * section.WIDTH_PER_GROUP * 2**index,
        "num_groups": section.NUM_GROUPS,
        "norm": section.NORM,
        "stride_in_1x1": section.STRIDE_IN_1X1,
    }
    if not section.DEFORM_ON_PER_STAGE[index]:
        return ResNet.make_stage(BottleneckBlock, num_blocks, **options)
    options |= {
        "deform_modulated": section.DEFORM_MODULATED,
        "deform_num_groups": section.DEFORM_NUM_GROUPS,
    }
    return ResNet.make_stage(DeformBottleneckBlock, num_blocks, **options)
