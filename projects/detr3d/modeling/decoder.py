"""The decoder: queries read the cameras at their reference points, which every layer refines.

Source: Wang et al., "DETR3D", 2021, arXiv:2110.06922, section 3.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from d2ext.modeling.transformer import FeedForward, MultiheadAttention, inverse_sigmoid
from d2ext.projects.detr3d.modeling.box_code import CENTRE, denormalise
from d2ext.projects.detr3d.modeling.sampling import project_points, sample_features


@dataclass(frozen=True)
class CameraView:
    """What queries look at: features and the geometry of their cameras.

    Attributes:
        levels: (B * N, C, H, W) features of each level, see `sample_features`.
        lidar2img: (B, N, 4, 4), see `project_points`.
        image_size: height and width of the padded images, in pixels.
    """

    levels: Sequence[Tensor]
    lidar2img: Tensor
    image_size: tuple[int, int]


class CameraCrossAttention(nn.Module):
    """Cross-attention of queries with the pixels that their reference points project to.

    Weights are sigmoids, normalised neither over cameras nor over levels. A point that no camera
    sees adds the output's bias alone.

    Args:
        channels: C, of queries and features.
        num_cameras, num_levels: N and L.
        point_range: see `denormalise`.
        dropout: rate of the projected samples.
    """

    def __init__(
        self,
        channels: int,
        num_cameras: int,
        num_levels: int,
        point_range: Sequence[float],
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_cameras, self.num_levels = num_cameras, num_levels
        self.point_range = tuple(point_range)
        self.attention_weights = nn.Linear(channels, num_cameras * num_levels)
        self.output_proj = nn.Linear(channels, channels)
        self.position_encoder = nn.Sequential(
            *(nn.Linear(3, channels), nn.LayerNorm(channels), nn.ReLU()),
            *(nn.Linear(channels, channels), nn.LayerNorm(channels), nn.ReLU()),
        )
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.attention_weights.weight)  # every weight starts at 0.5
        nn.init.zeros_(self.attention_weights.bias)

    def forward(
        self, queries: Tensor, position: Tensor, reference: Tensor, view: CameraView
    ) -> Tensor:
        """Attend and add the residual.

        Args:
            queries, position: (B, Q, C).
            reference: (B, Q, 3) normalised by the range.
        Returns:
            (B, Q, C).
        """
        points = denormalise(reference, self.point_range)
        locations, seen = project_points(points, view.lidar2img, view.image_size)
        logits = self.attention_weights(queries + position)
        weights = logits.sigmoid().unflatten(-1, (self.num_cameras, self.num_levels))
        sampled = self.output_proj(sample_features(view.levels, locations, seen, weights))
        place = self.position_encoder(inverse_sigmoid(reference))
        return self.dropout(sampled) + queries + place


class DecoderLayer(nn.Module):
    """Self-attention, camera cross-attention and feed-forward, each followed by a layer norm.

    Args:
        cross_attention: reads the cameras.
        channels, num_heads, feedforward, dropout: of the other two parts.
    """

    def __init__(
        self,
        cross_attention: CameraCrossAttention,
        channels: int,
        num_heads: int,
        feedforward: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(channels, num_heads, dropout)
        self.cross_attn = cross_attention
        self.feed_forward = FeedForward(channels, feedforward, dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, queries: Tensor, position: Tensor, reference: Tensor, view: CameraView
    ) -> Tensor:
        """(B, Q, C) -> (B, Q, C); arguments as of `CameraCrossAttention`."""
        placed = queries + position
        queries = self.norm1(queries + self.dropout(self.self_attn(placed, placed, queries)))
        queries = self.norm2(self.cross_attn(queries, position, reference, view))
        return self.norm3(queries + self.feed_forward(queries))


class Decoder(nn.Module):
    """A stack of layers; each one's box branch moves the reference points of the next.

    Args:
        layers: the layers.
        box_branches: one per layer, C -> 10.
    """

    def __init__(self, layers: Sequence[DecoderLayer], box_branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.box_branches = nn.ModuleList(box_branches)

    def forward(
        self, queries: Tensor, position: Tensor, reference: Tensor, view: CameraView
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run all layers.

        Args:
            queries, position: (B, Q, C).
            reference: (B, Q, 3) normalised, where the first layer looks.
        Returns:
            States (L, B, Q, C); codes (L, B, Q, 10) whose centres are normalised; the refined
            reference points (L, B, Q, 3) without gradient.
        """
        states, codes, references = [], [], []
        for layer, branch in zip(self.layers, self.box_branches, strict=True):
            queries = layer(queries, position, reference, view)
            code = _move_centre(branch(queries), reference)
            # Detached: the loss of a layer must not reach the layers before through the points.
            reference = code[..., CENTRE].detach()
            states.append(queries)
            codes.append(code)
            references.append(reference)
        return torch.stack(states), torch.stack(codes), torch.stack(references)


def _move_centre(code: Tensor, reference: Tensor) -> Tensor:
    """Replace the centre of (B, Q, 10) codes, an offset of logits, by the moved point in [0, 1]."""
    moved = (code[..., CENTRE] + inverse_sigmoid(reference)).sigmoid()
    x, y, z = moved.split(1, dim=-1)
    return torch.cat((x, y, code[..., 2:4], z, code[..., 5:]), dim=-1)
