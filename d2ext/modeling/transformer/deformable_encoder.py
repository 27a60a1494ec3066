"""The transformer encoder of Deformable DETR: every pixel of every level samples all levels.

Source: Zhu et al., "Deformable DETR: Deformable Transformers for End-to-End Object Detection",
2020, arXiv:2010.04159, section 4.1 and appendix A.4.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from d2ext.layers import MultiScaleDeformableAttention
from d2ext.modeling.transformer.dropout import Dropout
from d2ext.modeling.transformer.encoder import run_layer
from d2ext.modeling.transformer.mlp import FeedForward


@dataclass(frozen=True)
class FlatLevels:
    """Feature maps of L levels as one sequence of S tokens, level after level and row-major.

    Attributes:
        tokens: (B, S, channels).
        position: (B, S, channels), position encodings including those of the level.
        padding_mask: (B, S) bool, True on padding.
        spatial_shapes: height and width of each level, in tokens.
        valid_ratios: (B, L, 2), the parts of each map's width and height that are not padding.
    """

    tokens: Tensor
    position: Tensor
    padding_mask: Tensor
    spatial_shapes: tuple[tuple[int, int], ...]
    valid_ratios: Tensor

    @classmethod
    def from_maps(
        cls, features: Sequence[Tensor], positions: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> "FlatLevels":
        """Flatten maps (B, channels, H, W), their positions and their masks (B, H, W)."""
        return cls(
            tokens=torch.cat([level.flatten(2).mT for level in features], 1),
            position=torch.cat([level.flatten(2).mT for level in positions], 1),
            padding_mask=torch.cat([mask.flatten(1) for mask in masks], 1),
            spatial_shapes=tuple((mask.shape[1], mask.shape[2]) for mask in masks),
            valid_ratios=torch.stack([_valid_ratio(mask) for mask in masks], 1),
        )

    def reference_points(self) -> Tensor:
        """Compute the centre of every token in the coordinates of every level.

        Returns:
            (B, S, L, 2) x and y, where 0 and 1 are the borders of the padded map.
        """
        centers = [
            _centers(shape, self.valid_ratios.device) / self.valid_ratios[:, None, level]
            for level, shape in enumerate(self.spatial_shapes)
        ]
        return torch.cat(centers, 1)[:, :, None] * self.valid_ratios[:, None]


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention and feed-forward, each with residual and layer norm.

    Args:
        channels: width of the tokens.
        num_heads: heads of the attention.
        feedforward: width of the hidden layer of the feed-forward part.
        num_levels: number of feature levels.
        num_points: samples that a head takes from each level.
        dropout: rate of all dropouts.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        feedforward: int,
        num_levels: int,
        num_points: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.self_attn = MultiScaleDeformableAttention(channels, num_levels, num_heads, num_points)
        self.feed_forward = FeedForward(channels, feedforward, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, references: Tensor, levels: FlatLevels) -> Tensor:
        """Attend from each token to samples around its own place.

        Args:
            tokens: (B, S, channels).
            references: (B, S, L, 2), see `FlatLevels.reference_points`.
            levels: shapes, positions and padding of the tokens.
        Returns:
            (B, S, channels).
        """
        attended = self.self_attn(
            tokens + levels.position, references, tokens, levels.spatial_shapes, levels.padding_mask
        )
        tokens = self.norm1(tokens + self.dropout(attended))
        return self.norm2(tokens + self.feed_forward(tokens))


class DeformableEncoder(nn.Module):
    """A stack of deformable encoder layers.

    Args:
        layer: copied `num_layers` times.
        num_layers: number of layers.
        use_checkpoint: gradient checkpointing; layers are computed again in the backward pass.
    """

    def __init__(self, layer: nn.Module, num_layers: int, use_checkpoint: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(deepcopy(layer) for _ in range(num_layers))
        self.use_checkpoint = use_checkpoint

    def forward(self, levels: FlatLevels) -> Tensor:
        """Return the memory, (B, S, channels)."""
        tokens, references = levels.tokens, levels.reference_points()
        for layer in self.layers:
            tokens = run_layer(self.use_checkpoint, layer, tokens, references, levels)
        return tokens


def _valid_ratio(mask: Tensor) -> Tensor:
    """Return the parts of width and height that are not padding: (B, H, W) -> (B, 2)."""
    # Images lie at the top left: the first row and the first column show how far they reach.
    width, height = (~mask[:, 0]).float().mean(1), (~mask[:, :, 0]).float().mean(1)
    return torch.stack((width, height), 1)


def _centers(shape: tuple[int, int], device: torch.device) -> Tensor:
    """Return x and y of pixel centers, row-major, in parts of the map: (H * W, 2)."""
    height, width = shape
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
    return torch.stack(torch.broadcast_tensors(x, y[:, None]), -1).flatten(0, 1)
