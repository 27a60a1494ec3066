"""The pixel decoder of Mask2Former: deformable attention among three maps, one step of a pyramid.

Source: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", 2022,
arXiv:2112.01527, section 4.1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from d2ext.modeling.set_prediction import at_least_float32
from d2ext.modeling.transformer import SinePositionEncoding
from d2ext.modeling.transformer.deformable_encoder import DeformableEncoder, FlatLevels
from d2ext.projects.maskformer.modeling.pixel_decoder import (
    PixelFeatures,
    TopDownPyramid,
    c2_xavier,
    pixel_positions,
)

GROUPS = 32  # of the group norms of the projections


class DeformablePixelDecoder(nn.Module):
    """Projects and encodes the coarser maps; a pyramid adds the finer ones.

    Args:
        in_channels: widths of the backbone's maps, finest first.
        channels: width of everything.
        norm: of the pyramid's convolutions, see `detectron2.layers.get_norm`.
        encoder: deformable encoder of `num_levels` levels.
        num_levels: number of the coarsest maps that the encoder attends to.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        norm: str,
        encoder: DeformableEncoder,
        num_levels: int,
    ) -> None:
        super().__init__()
        self.num_finer = len(in_channels) - num_levels
        finer, encoded = in_channels[: self.num_finer], in_channels[self.num_finer :]
        # Levels count from the coarsest, in the projections and in the level embedding alike.
        self.input_proj = nn.ModuleList(_projection(width, channels) for width in encoded[::-1])
        self.level_embed = nn.Parameter(torch.randn(num_levels, channels))
        self.position = SinePositionEncoding(channels)
        self.encoder = encoder
        self.pyramid = TopDownPyramid(finer, channels, norm, mode="bilinear")
        self.embedding = c2_xavier(nn.Conv2d(channels, channels, 1))

    def forward(self, features: Sequence[Tensor]) -> PixelFeatures:
        """Decode the backbone's maps (B, C_i, H_i, W_i), finest first; in float32 at least."""
        with torch.autocast(features[0].device.type, enabled=False):
            return self._decode([at_least_float32(feature) for feature in features])

    def _decode(self, features: Sequence[Tensor]) -> PixelFeatures:
        finer, encoded = features[: self.num_finer], features[self.num_finer :]
        levels = self._flatten(encoded[::-1])
        tokens = self.encoder(levels).mT  # (B, C, S)
        sizes = [height * width for height, width in levels.spatial_shapes]
        memory = [
            level.unflatten(2, shape)
            for level, shape in zip(tokens.split(sizes, 2), levels.spatial_shapes, strict=True)
        ]
        return PixelFeatures(self.embedding(self.pyramid(memory[-1], finer)), memory)

    def _flatten(self, features: Sequence[Tensor]) -> FlatLevels:
        """Project maps, coarsest first, and add the level embedding to their positions."""
        maps = [project(each) for project, each in zip(self.input_proj, features, strict=True)]
        positions = [
            pixel_positions(self.position, level) + embed[:, None, None]
            for level, embed in zip(maps, self.level_embed, strict=True)
        ]
        # Padded pixels are ordinary pixels, as published.
        masks = [torch.zeros_like(level[:, 0], dtype=torch.bool) for level in maps]
        return FlatLevels.from_maps(maps, positions, masks)


def _projection(in_channels: int, channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, 1)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, channels))
