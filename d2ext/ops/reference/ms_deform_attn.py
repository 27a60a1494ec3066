"""Multi-scale deformable attention in plain PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.ops.reference.embedding_bags import (
    Corners,
    bilinear_corners,
    sum_bags,
    sum_bags_backward,
)
from d2ext.ops.reference.floats import in_float


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: list[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Compute multi-scale deformable attention: one bag per query and head, four rows per sample.

    Half types are summed in float32. Shapes as in `d2ext.ops.ms_deform_attn`, except that
    `spatial_shapes` is flat: height and width of the first level, then of the second, and so on.
    """
    corners = _corners(in_float(sampling_locations), spatial_shapes)
    weights = corners.weight * in_float(attention_weights).unsqueeze(-1)
    sums = sum_bags(_as_table(value), _as_bags(value, corners), weights)
    batch, queries, heads = weights.shape[:3]
    return sums.view(batch, queries, heads * value.shape[3]).to(value.dtype)


def ms_deform_attn_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: list[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of value, sampling locations and attention weights, in their dtypes."""
    corners = _corners(in_float(sampling_locations), spatial_shapes)
    factors = in_float(attention_weights).unsqueeze(-1)
    grad_value, products = sum_bags_backward(
        in_float(grad_output).reshape(-1, value.shape[3]),
        _as_table(value),
        _as_bags(value, corners),
        corners.weight * factors,
    )
    products = products.view_as(corners.weight)
    grad_weights = (corners.weight * products).sum(-1)
    grad_positions = (corners.slopes * (products * factors).unsqueeze(-1)).sum(-2)
    # Locations are normalised: a step of 1 is as many pixels as the level has.
    sizes = corners.weight.new_tensor(spatial_shapes).view(-1, 1, 2)
    return (
        grad_value.view(value.shape).to(value.dtype),
        (grad_positions * sizes).flip(-1).to(sampling_locations.dtype),
        grad_weights.to(attention_weights.dtype),
    )


def ms_deform_attn_by_grid_sample(
    value: Tensor,
    spatial_shapes: list[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Compute `ms_deform_attn` with operators that exporters know.

    All samples are in memory at once.
    """
    batch, queries, heads, levels, points, _ = sampling_locations.shape
    grids = 2 * in_float(sampling_locations).transpose(1, 2).flatten(0, 1) - 1
    sizes = list(zip(spatial_shapes[::2], spatial_shapes[1::2], strict=True))
    maps = in_float(value).split([height * width for height, width in sizes], dim=1)
    samples = [
        F.grid_sample(
            maps[level].permute(0, 2, 3, 1).reshape(batch * heads, -1, *sizes[level]),
            grids[:, :, level],
            align_corners=False,
        )
        for level in range(levels)
    ]  # (N * M, D, Q, P) each
    weights = in_float(attention_weights).transpose(1, 2)
    weights = weights.reshape(batch * heads, 1, queries, levels * points)
    output = (torch.cat(samples, dim=-1) * weights).sum(-1)
    return output.view(batch, -1, queries).transpose(1, 2).to(value.dtype)


def _corners(locations: Tensor, spatial_shapes: list[int]) -> Corners:
    """Return the corners of (N, Q, M, L, P, 2) locations, numbering pixels through all levels."""
    found, first = [], 0
    for level in range(locations.shape[3]):
        height, width = spatial_shapes[2 * level : 2 * level + 2]
        positions = locations[:, :, :, level].flip(-1) * locations.new_tensor([height, width])
        # Location 0 is the map's border, position 0 the centre of its first pixel.
        pixel, weight, slopes = bilinear_corners(positions - 0.5, height, width)
        found.append((pixel + first, weight, slopes))
        first += height * width
    return Corners(*(torch.stack(parts, dim=3) for parts in zip(*found, strict=True)))


def _as_table(value: Tensor) -> Tensor:
    """Reshape (N, S, M, D) to (N * S * M, D): a row holds a pixel's channels of one head."""
    return in_float(value).reshape(-1, value.shape[3])


def _as_bags(value: Tensor, corners: Corners) -> Tensor:
    """Return the (N * Q * M, L * P * 4) rows of the table."""
    batch, pixels, heads, _ = value.shape
    image = torch.arange(batch, device=value.device).view(-1, 1, 1, 1, 1, 1)
    head = torch.arange(heads, device=value.device).view(-1, 1, 1, 1)
    rows = (corners.pixel + image * pixels) * heads + head
    return rows.flatten(3).flatten(0, 2)
