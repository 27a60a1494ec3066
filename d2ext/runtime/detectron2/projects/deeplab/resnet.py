"""ResNet with dilated last stages and optionally a stem of three small convolutions."""

from fvcore.nn import weight_init
from torch import Tensor
from torch.nn import functional as F

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.resnet import (
    BLOCKS_PER_STAGE,
    BasicStem,
    ResNet,
    bottleneck_stage,
    configured_resnet,
)

__all__ = ["DeepLabStem", "build_resnet_deeplab_backbone"]


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
        "DEPTH": [50, 101, 152],
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
    dilation = {2: section.RES4_DILATION, 3: section.RES5_DILATION}.get(index, 1)
    # Dilation takes the place of the stride: the resolution of the previous stage is kept.
    stride = 1 if index == 0 or dilation > 1 else 2
    dilations = [dilation] * BLOCKS_PER_STAGE[section.DEPTH][index]
    if index == 3:
        dilations = [dilation * factor for factor in section.RES5_MULTI_GRID]
    return bottleneck_stage(section, index, in_channels, out_channels, stride, dilations)
