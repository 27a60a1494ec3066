"""ResNets with a stem of three 3x3 convolutions: "R-101c" of MaskFormer, DeepLab's ResNets.

Source: Zhao et al., "Pyramid Scene Parsing Network", 2017, arXiv:1612.01105, published code.
"""

import torch.nn.functional as F
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, ResNet, build_resnet_backbone


class DeepStem(CNNBlockBase):
    """Three convolutions, the first of stride 2, and max pooling: stride 4.

    Args:
        in_channels: channels of the image.
        out_channels: of the last convolution; the others have half of them.
        norm: see `detectron2.layers.get_norm`.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__(in_channels, out_channels, 4)
        half = out_channels // 2
        self.conv1 = _conv(in_channels, half, norm, stride=2)
        self.conv2 = _conv(half, half, norm)
        self.conv3 = _conv(half, out_channels, norm)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / 4, W / 4)."""
        maps = self.conv3(self.conv2(self.conv1(images)))
        return F.max_pool2d(maps, kernel_size=3, stride=2, padding=1)


@BACKBONE_REGISTRY.register()
def build_deep_stem_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build Detectron2's ResNet with a deep stem; `MODEL.RESNETS.STEM_OUT_CHANNELS` is 128."""
    backbone = build_resnet_backbone(cfg, input_shape)
    resnets = cfg.MODEL.RESNETS
    channels = input_shape.channels or 3
    stem = DeepStem(channels, resnets.STEM_OUT_CHANNELS, resnets.NORM)
    backbone.stem = stem.freeze() if cfg.MODEL.BACKBONE.FREEZE_AT >= 1 else stem
    return backbone


def _conv(in_channels: int, channels: int, norm: str, stride: int = 1) -> Conv2d:
    conv = Conv2d(
        in_channels,
        channels,
        3,
        stride=stride,
        padding=1,
        bias=False,
        norm=get_norm(norm, channels),
        activation=F.relu,
    )
    c2_msra_fill(conv)
    return conv
