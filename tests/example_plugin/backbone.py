"""StridedConvs: three convolutions of stride 2."""

from itertools import pairwise

from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone


@BACKBONE_REGISTRY.register()
class StridedConvs(Backbone):
    """One feature map, "stride8".

    Args:
        in_channels: channels of the image.
        width: channels of every layer and of "stride8".
    """

    @configurable
    def __init__(self, *, in_channels: int, width: int) -> None:
        super().__init__()
        self.width = width
        channels = (in_channels, width, width, width)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU())
                for before, after in pairwise(channels)
            )
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        return {"in_channels": input_shape.channels, "width": cfg.MODEL.STRIDED_CONVS.WIDTH}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) -> {"stride8": (B, width, H / 8, W / 8)}."""
        return {"stride8": self.layers(images)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"stride8": ShapeSpec(channels=self.width, stride=8)}

    @property
    def size_divisibility(self) -> int:
        return 8
