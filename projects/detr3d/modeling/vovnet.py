"""VoVNetV2: stages of one-shot aggregation with effective squeeze and excitation.

Source: Lee and Park, "CenterMask: Real-Time Anchor-Free Instance Segmentation", 2020,
arXiv:1911.06667, section 3.2; table 8 has the widths of VoVNet-99.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone

STEM_WIDTHS, STEM_STRIDES = (64, 64, 128), (2, 1, 2)
LAYER_WIDTHS = (128, 160, 192, 224)  # of the 3x3 convolutions of each stage
STAGE_WIDTHS = (256, 512, 768, 1024)  # of the stages' outputs
LAYERS_PER_BLOCK = 5
STAGE_NAMES = ("stage2", "stage3", "stage4", "stage5")
STEM_STRIDE = 4


class OneShotAggregation(nn.Module):
    """A chain of 3x3 convolutions whose outputs are all concatenated once, at the end.

    Args:
        in_channels, width, out_channels: of the input, of the chain and of the output.
        residual: add the input to the output.
        norm: see `get_norm`.
    """

    def __init__(
        self, in_channels: int, width: int, out_channels: int, residual: bool, norm: str
    ) -> None:
        super().__init__()
        self.residual = residual
        widths = [in_channels, *[width] * LAYERS_PER_BLOCK]
        self.layers = nn.ModuleList(_convolution(*pair, 3, 1, norm) for pair in pairwise(widths))
        self.concat = _convolution(sum(widths), out_channels, 1, 1, norm)
        self.excite = nn.Conv2d(out_channels, out_channels, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        chain = [feature]
        for layer in self.layers:
            chain.append(layer(chain[-1]))
        output = self.concat(torch.cat(chain, dim=1))
        output = output * F.hardsigmoid(self.excite(output.mean((2, 3), keepdim=True)))
        return output + feature if self.residual else output


@BACKBONE_REGISTRY.register()
class VoVNet(Backbone):
    """Feature maps "stage2" to "stage5" with strides 4 to 32.

    Args:
        in_channels: of the image.
        stage_blocks: number of blocks of each of the four stages.
        out_features: names of the maps to return.
        norm: see `get_norm`.
        norm_eval: batch norm keeps its statistics in training; scales and biases are trained.
        freeze_at: 1 freezes the stem, 2 the first stage too, and so on; 0 nothing.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        stage_blocks: Sequence[int],
        out_features: Sequence[str],
        norm: str,
        norm_eval: bool,
        freeze_at: int,
    ) -> None:
        super().__init__()
        self.out_features, self.norm_eval = tuple(out_features), norm_eval
        widths = zip(pairwise((in_channels, *STEM_WIDTHS)), STEM_STRIDES, strict=True)
        self.stem = nn.Sequential(
            *(_convolution(*pair, 3, stride, norm) for pair, stride in widths)
        )
        channels = STEM_WIDTHS[-1]
        sizes = zip(LAYER_WIDTHS, STAGE_WIDTHS, stage_blocks, strict=True)
        for name, (width, out_channels, count) in zip(STAGE_NAMES, sizes, strict=True):
            blocks = nn.Sequential()
            for index in range(count):
                blocks.append(OneShotAggregation(channels, width, out_channels, index > 0, norm))
                channels = out_channels
            self.add_module(name, blocks)
        self._freeze(freeze_at)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        options = {key.lower(): value for key, value in cfg.MODEL.VOVNET.items()}
        freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT
        return {"in_channels": input_shape.channels, "freeze_at": freeze_at, **options}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) -> the maps of `out_features` by name."""
        feature, found = self.stem(images), {}
        for name in STAGE_NAMES:
            if name != STAGE_NAMES[0]:
                # Rounded up, so that the last row and column of odd sizes are seen.
                feature = F.max_pool2d(feature, 3, stride=2, ceil_mode=True)
            feature = getattr(self, name)(feature)
            found[name] = feature
        return {name: found[name] for name in self.out_features}

    def train(self, mode: bool = True) -> "VoVNet":
        """Set the mode; with `norm_eval`, batch norm stays in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if self.norm_eval and isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def output_shape(self) -> dict[str, ShapeSpec]:
        shapes = {
            name: ShapeSpec(channels=width, stride=STEM_STRIDE * 2**index)
            for index, (name, width) in enumerate(zip(STAGE_NAMES, STAGE_WIDTHS, strict=True))
        }
        return {name: shapes[name] for name in self.out_features}

    def _freeze(self, freeze_at: int) -> None:
        parts = [self.stem, *(getattr(self, name) for name in STAGE_NAMES)]
        for part in parts[:freeze_at]:
            part.requires_grad_(False)
            FrozenBatchNorm2d.convert_frozen_batchnorm(part)


def _convolution(in_channels: int, channels: int, size: int, stride: int, norm: str) -> Conv2d:
    return Conv2d(
        *(in_channels, channels, size, stride, size // 2),
        bias=False,
        norm=get_norm(norm, channels),
        activation=F.relu,
    )
