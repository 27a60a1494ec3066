"""The convolution towers of dense heads."""

import torch
from torch import Tensor, nn

from d2ext.layers import DeformConvPack
from d2ext.modeling.init import init_normal
from detectron2.layers import get_norm

# Norms of which every level gets its own: levels differ in statistics, and shared running
# averages of them would fit none.
PER_LEVEL = ("BN", "SyncBN")


class ContiguousGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` that trains on contiguous memory on CPUs.

    PyTorch's backward pass takes five times as long in bfloat16 where the channels are last.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        trains = torch.is_grad_enabled() and not torch.compiler.is_exporting()
        return super().forward(
            input.contiguous() if trains and input.device.type == "cpu" else input
        )


class ConvTower(nn.ModuleList):
    """A conv tower shared by all pyramid levels.

    An entry that is itself a `ModuleList` holds one layer per level.
    """

    def forward(self, feature: Tensor, level: int) -> Tensor:
        """Apply the layers to the (B, C, H, W) features of a level: (B, channels, H, W)."""
        for layer in self:
            feature = (layer[level] if isinstance(layer, nn.ModuleList) else layer)(feature)
        return feature


def conv_tower(
    in_channels: int, channels: int, num_convs: int, norm: str, deformable: bool, num_levels: int
) -> ConvTower:
    """Build a tower of 3x3 convolutions, each followed by a norm and a ReLU.

    Args:
        norm: a name of `detectron2.layers.get_norm`; "" for none.
        deformable: make the last convolution a deformable one.
        num_levels: levels of the pyramid, which matters to norms of `PER_LEVEL`.
    """
    layers: list[nn.Module] = []
    for i in range(num_convs):
        width = channels if i else in_channels
        if deformable and i == num_convs - 1:
            layers.append(DeformConvPack(width, channels))
        else:
            layers.append(init_normal(nn.Conv2d(width, channels, 3, padding=1)))
        norms = [get_norm(norm, channels) for _ in range(num_levels if norm in PER_LEVEL else 1)]
        made = [layer for layer in norms if layer is not None]
        for layer in made:
            if type(layer) is nn.GroupNorm:
                layer.__class__ = ContiguousGroupNorm
        layers += [nn.ModuleList(made)] if norm in PER_LEVEL else made
        layers.append(nn.ReLU())
    return ConvTower(layers)
