"""From a backbone's feature maps to the tokens of all levels, with positions and padding.

Source: Zhu et al., "Deformable DETR", 2020, arXiv:2010.04159, section 4 and appendix A.2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from d2ext.modeling.transformer import SinePositionEncoding, resize_mask
from d2ext.modeling.transformer.deformable_encoder import FlatLevels

GROUPS = 32  # of the group norms


class MultiScaleLevels(nn.Module):
    """Projects feature maps to one width and adds coarser levels below the last one.

    The first added level comes from the last map itself, every further one from the level before.

    Args:
        in_channels: widths of the maps, finest first.
        channels: width of the levels; a multiple of 32.
        num_levels: number of levels; at least that of the maps.
        position: encodes the place in an image.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        num_levels: int,
        position: SinePositionEncoding,
    ) -> None:
        super().__init__()
        added = num_levels - len(in_channels)
        if added < 0:
            raise ValueError(f"{num_levels} levels are fewer than {len(in_channels)} feature maps")
        coarser = [in_channels[-1], *[channels] * added][:added]
        self.input_proj = nn.ModuleList(
            [_projection(width, channels, 1) for width in in_channels]
            + [_projection(width, channels, 3) for width in coarser]
        )
        self.position = position
        # Without further levels there is nothing to tell apart, yet published weights have it.
        self.level_embed = nn.Parameter(torch.randn(num_levels, channels))

    def forward(self, features: Sequence[Tensor], padding_mask: Tensor) -> FlatLevels:
        """Project and flatten the maps.

        Args:
            features: (B, C_i, H_i, W_i), finest first.
            padding_mask: (B, H, W) bool of the images, True on padding.
        """
        maps = self._project(features)
        masks = [resize_mask(padding_mask, level.shape[-2:]) for level in maps]
        positions = [
            self.position(mask) + embed[:, None, None]
            for mask, embed in zip(masks, self.level_embed, strict=True)
        ]
        return FlatLevels.from_maps(maps, positions, masks)

    def _project(self, features: Sequence[Tensor]) -> list[Tensor]:
        count = len(features)
        maps = [project(each) for project, each in zip(self.input_proj, features, strict=False)]
        last = features[-1]
        for project in self.input_proj[count:]:
            last = project(last)
            maps.append(last)
        return maps


def _projection(in_channels: int, channels: int, kernel_size: int) -> nn.Sequential:
    """Return a convolution, of stride 2 where its kernel is larger than 1, and a group norm."""
    stride, padding = (2, 1) if kernel_size > 1 else (1, 0)
    conv = nn.Conv2d(in_channels, channels, kernel_size, stride, padding)
    nn.init.xavier_uniform_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, channels))
