"""A residual block with squeeze and excitation, for `MODEL.RESNETS.BLOCK: SEBlock`."""

from torch import Tensor, nn

from d2ext.modeling.backbone import BlockShape, register_block
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, get_norm


class SEBlock(CNNBlockBase):
    """A 3x3 convolution, a gate per channel, and a shortcut (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, shape: BlockShape, norm: str) -> None:
        super().__init__(shape.in_channels, shape.out_channels, shape.stride)
        options = {"stride": shape.stride, "bias": False}
        channels = (shape.in_channels, shape.out_channels)
        self.conv = Conv2d(*channels, 3, padding=1, norm=get_norm(norm, channels[1]), **options)
        self.shortcut = Conv2d(*channels, 1, norm=get_norm(norm, channels[1]), **options)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels[1], channels[1], 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv(x)
        return (branch * self.gate(branch) + self.shortcut(x)).relu()


def _build(section: CfgNode, shape: BlockShape) -> SEBlock:
    return SEBlock(shape, section.NORM)


register_block("SEBlock", _build)
