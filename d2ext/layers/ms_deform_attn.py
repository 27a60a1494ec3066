"""Multi-scale deformable attention as a module.

Parameter names and initialisation follow Deformable DETR, so that its checkpoints fit.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from d2ext.ops import ms_deform_attn


class MultiScaleDeformableAttention(nn.Module):
    """Attention of queries to a few learnt sampling points on each level of a feature pyramid.

    Source: Zhu et al. 2020, arXiv:2010.04159, equation 3 and appendix A.4.

    Args:
        channels: channels of queries, features and output, a multiple of `num_heads`.
        num_levels: number of feature maps.
        num_heads: attention heads, each with its own sampling points and weights.
        num_points: sampling points per head and level.
    Raises:
        ValueError: `channels` is no multiple of `num_heads`.
    """

    def __init__(
        self, channels: int = 256, num_levels: int = 4, num_heads: int = 8, num_points: int = 4
    ) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels can't be split into {num_heads} heads")
        self.num_levels, self.num_heads, self.num_points = num_levels, num_heads, num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(channels, samples * 2)
        self.attention_weights = nn.Linear(channels, samples)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise head h to sample along direction 2*pi*h/H at 1..K pixels, uniform weights."""
        # Zero weights: at first, offsets and attention weights are the same for all queries.
        nn.init.zeros_(self.sampling_offsets.weight)
        self.sampling_offsets.bias.copy_(self._initial_offsets().flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        features: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend from each query to the feature maps around its reference point.

        Args:
            query: (N, Q, channels).
            reference_points: (N, Q, L, 2) x and y, normalised to each map: offsets are then in
                pixels. Or (N, Q, L, 4) with width and height of a box: offsets are then relative to
                half its size, divided by `num_points`.
            features: (N, S, channels), pixels of all L maps, level after level and row-major.
            spatial_shapes: height and width of each map, in pixels.
            padding_mask: (N, S) bools, true for padding, which counts as zero.
        Returns:
            (N, Q, channels), dtype of `features` or of autocast.
        Raises:
            ValueError: a shape does not fit, see `d2ext.ops.ms_deform_attn`.
        """
        heads, samples = self.num_heads, (self.num_levels, self.num_points)
        value = self.value_proj(features)
        if padding_mask is not None:  # after the projection, whose bias is not zero
            value = value.masked_fill(padding_mask.unsqueeze(-1), 0)
        offsets = self.sampling_offsets(query).unflatten(-1, (heads, *samples, 2))
        # One softmax over the points of all levels together.
        weights = self.attention_weights(query).unflatten(-1, (heads, -1)).softmax(-1)
        attended = ms_deform_attn(
            value.unflatten(-1, (heads, -1)),
            spatial_shapes,
            self._locations(reference_points, offsets, spatial_shapes),
            weights.unflatten(-1, samples),
        )
        return self.output_proj(attended)

    def extra_repr(self) -> str:
        """Return the arguments that the shapes of the parameters do not show."""
        names = "num_levels", "num_heads", "num_points"
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)

    def _initial_offsets(self) -> Tensor:
        """Return (heads, levels, points, 2) x and y in pixels, see `reset_parameters`."""
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
        # The larger coordinate becomes 1: eight heads point at the eight neighbours of a pixel.
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1).unsqueeze(-1)
        offsets = directions[:, None, None] * steps
        return offsets.expand(-1, self.num_levels, -1, -1)

    def _locations(
        self,
        reference_points: Tensor,
        offsets: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Return (N, Q, heads, levels, points, 2) sampling locations, normalised to each map."""
        centre, size = reference_points[..., :2], reference_points[..., 2:]
        if reference_points.shape[-1] == 2:
            sides = (side for height, width in spatial_shapes for side in (width, height))
            # Filled one by one: a tensor from a list would be a synchronous copy to the GPU.
            unit = torch.stack([centre.new_full((), 1 / side) for side in sides]).view(-1, 2)
        elif reference_points.shape[-1] == 4:
            # So that point K at its initial offset of K lies on the border of the box.
            unit = size * (0.5 / self.num_points)
        else:
            raise ValueError(
                f"reference_points must be (N, Q, L, 2 or 4), got {tuple(reference_points.shape)}"
            )
        # Rows of all samples of a head: vector instructions need more than x and y in a row.
        rows = torch.addcmul(self._per_sample(centre), offsets.flatten(-3), self._per_sample(unit))
        return rows.unflatten(-1, offsets.shape[-3:])

    def _per_sample(self, per_level: Tensor) -> Tensor:
        """Repeat (..., levels, 2) for the points of a head: (..., 1, levels * points * 2)."""
        repeated = per_level.unsqueeze(-2).expand(*per_level.shape[:-1], self.num_points, 2)
        return repeated.flatten(-3).unsqueeze(-2)
