"""RoI align in plain PyTorch, upright and rotated."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Frames(NamedTuple):
    """Regions in pixels of the maps, whose first pixel has its centre at 0.

    Attributes:
        image: (K,) int64.
        center, size: (K, 2), y before x.
        cos, sin: (K,) of the angle, counter-clockwise.
    """

    image: Tensor
    center: Tensor
    size: Tensor
    cos: Tensor
    sin: Tensor


def roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Shapes as in `d2ext.ops.roi_align`."""
    frames = _upright(_beside(rois, input), spatial_scale, aligned)
    return _forward(input, frames, (pooled_height, pooled_width), sampling_ratio)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    batch: int,
    height: int,
    width: int,
) -> Tensor:
    """Gradient of the maps, (batch, C, height, width)."""
    frames = _upright(_beside(rois, grad_output), spatial_scale, aligned)
    return _backward(grad_output, frames, sampling_ratio, (batch, height, width))


def roi_align_rotated(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
) -> Tensor:
    """Shapes as in `d2ext.ops.roi_align_rotated`."""
    frames = _rotated(_beside(rois, input), spatial_scale)
    return _forward(input, frames, (pooled_height, pooled_width), sampling_ratio)


def roi_align_rotated_backward(
    grad_output: Tensor,
    rois: Tensor,
    spatial_scale: float,
    sampling_ratio: int,
    batch: int,
    height: int,
    width: int,
) -> Tensor:
    """Gradient of the maps, (batch, C, height, width)."""
    frames = _rotated(_beside(rois, grad_output), spatial_scale)
    return _backward(grad_output, frames, sampling_ratio, (batch, height, width))


def roi_align_by_gathers(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """The same in operators that exporters know, for a fixed number of samples."""
    frames = _upright(_beside(rois, input), spatial_scale, aligned)
    return _by_gathers(input, frames, (pooled_height, pooled_width), sampling_ratio)


def roi_align_rotated_by_gathers(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
) -> Tensor:
    """The same in operators that exporters know, for a fixed number of samples."""
    frames = _rotated(_beside(rois, input), spatial_scale)
    return _by_gathers(input, frames, (pooled_height, pooled_width), sampling_ratio)


def _upright(rois: Tensor, scale: float, aligned: bool) -> Frames:
    start, end = rois[:, [2, 1]] * scale, rois[:, [4, 3]] * scale
    size = end - start if aligned else (end - start).clamp(min=1)
    center = start + size / 2 - (0.5 if aligned else 0.0)
    one = torch.ones_like(rois[:, 0])
    return Frames(rois[:, 0].long(), center, size, one, 0 * one)


def _rotated(rois: Tensor, scale: float) -> Frames:
    angle = rois[:, 5].deg2rad()
    center, size = rois[:, [2, 1]] * scale - 0.5, rois[:, [4, 3]] * scale
    return Frames(rois[:, 0].long(), center, size, angle.cos(), angle.sin())


# A pixel's channels are a row of a table, and a bin is the weighted sum of some rows: a bag of
# embeddings, of which PyTorch sums any number without a temporary.


def _forward(input: Tensor, frames: Frames, pooled: tuple[int, int], sampling_ratio: int) -> Tensor:
    batch, channels, height, width = input.shape
    bags = _bags(frames, pooled, sampling_ratio, (batch, height, width))
    table = _beside(input, input).permute(0, 2, 3, 1).flatten(0, 2)
    bins = F.embedding_bag(
        bags.rows, table, bags.starts, per_sample_weights=bags.weights, mode="sum"
    )
    output = bins.view(len(frames.image), *pooled, channels).permute(0, 3, 1, 2)
    return output.to(input.dtype).contiguous()


def _backward(
    grad_output: Tensor, frames: Frames, sampling_ratio: int, maps: tuple[int, int, int]
) -> Tensor:
    channels, *pooled = grad_output.shape[1:]
    bags = _bags(frames, (pooled[0], pooled[1]), sampling_ratio, maps)
    grads = _beside(grad_output, grad_output).permute(0, 2, 3, 1).flatten(0, 2)
    nothing, mode_sum = bags.rows.new_empty(0), 0
    batch, height, width = maps
    table = torch.ops.aten._embedding_bag_dense_backward(
        grads,
        bags.rows,
        bags.bag_of_row,
        nothing,
        nothing,
        batch * height * width,
        False,
        mode_sum,
        bags.weights,
    )
    grad_input = table.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return grad_input.to(grad_output.dtype).contiguous()


class _Bags(NamedTuple):
    """Bins as weighted sums of rows of the table; (N,) or, for the starts, one a bin."""

    rows: Tensor
    weights: Tensor
    bag_of_row: Tensor
    starts: Tensor


def _bags(
    frames: Frames, pooled: tuple[int, int], sampling_ratio: int, maps: tuple[int, int, int]
) -> _Bags:
    bins = pooled[0] * pooled[1]
    grid = torch.full_like(frames.size, sampling_ratio)
    if sampling_ratio <= 0:
        grid = (frames.size / frames.size.new_tensor(pooled)).ceil().clamp(min=0)
    samples = grid.prod(1).long()  # of a bin of each region
    roi = torch.arange(len(samples), device=samples.device).repeat_interleave(bins * samples)
    before = (bins * samples).cumsum(0) - bins * samples
    place = torch.arange(len(roi), device=roi.device) - before[roi]
    bin, number = place // samples[roi], place % samples[roi]
    columns = grid[roi, 1].long()
    steps = torch.stack((number // columns, number % columns), -1) + 0.5
    where = torch.stack((bin // pooled[1], bin % pooled[1]), -1) + steps / grid[roi]
    pixels, shares = _corners(_positions(frames, roi, where, pooled), maps[1:])
    rows = pixels + (frames.image[roi] * maps[1] * maps[2]).unsqueeze(-1)
    sizes = 4 * samples.repeat_interleave(bins)
    return _Bags(
        rows=rows.flatten(),
        weights=(shares / samples[roi].unsqueeze(-1)).flatten(),
        bag_of_row=(roi * bins + bin).repeat_interleave(4),
        starts=sizes.cumsum(0) - sizes,
    )


def _positions(frames: Frames, roi: Tensor, where: Tensor, pooled: tuple[int, int]) -> Tensor:
    """(..., 2) pixels, y and x, of places `where` in the regions `roi`, counted in bins."""
    along = (where / where.new_tensor(pooled) - 0.5) * frames.size[roi]
    along_y, along_x = along.unbind(-1)
    cos, sin = frames.cos[roi], frames.sin[roi]
    turned = (along_y * cos - along_x * sin, along_y * sin + along_x * cos)
    return frames.center[roi] + torch.stack(turned, -1)


def _corners(positions: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Row-major numbers and shares, (..., 4) both, of the four pixels around positions.

    Up to a pixel outside the map its border goes on; beyond, all shares are zero.
    """
    sizes = positions.new_tensor(size)
    inside = ((positions >= -1) & (positions <= sizes)).all(-1)
    positions = torch.minimum(positions.clamp(min=0), sizes - 1).nan_to_num(0)
    first = positions.floor()
    second = torch.minimum(first + 1, sizes - 1)
    share = positions - first
    (top, left), (bottom, right) = first.long().unbind(-1), second.long().unbind(-1)
    down, over = share.unbind(-1)
    rows = [top * size[1] + left, top * size[1] + right]
    rows += [bottom * size[1] + left, bottom * size[1] + right]
    shares = [(1 - down) * (1 - over), (1 - down) * over, down * (1 - over), down * over]
    return torch.stack(rows, -1), torch.stack(shares, -1) * inside.unsqueeze(-1)


def _by_gathers(
    input: Tensor, frames: Frames, pooled: tuple[int, int], sampling_ratio: int
) -> Tensor:
    """A gather for each corner of each sample of all bins at once."""
    if sampling_ratio <= 0:
        raise ValueError(
            "sampling_ratio 0 takes as many samples as a region is large, which can't be exported; "
            "give a number, such as 2"
        )
    channels, height, width = input.shape[1:]
    table = _beside(input, input).permute(0, 2, 3, 1).flatten(0, 2)
    where = table.new_tensor(_sample_places(pooled, sampling_ratio))  # (bins, samples, 2)
    roi = torch.arange(len(frames.image), device=input.device).view(-1, 1, 1)
    pixels, shares = _corners(_positions(frames, roi, where, pooled), (height, width))
    rows = (pixels + (frames.image * height * width).view(-1, 1, 1, 1)).flatten(2)
    shares = shares.flatten(2) / sampling_ratio**2
    output = torch.zeros((), dtype=table.dtype, device=input.device)
    for term in range(4 * sampling_ratio**2):
        output = output + table[rows[..., term]] * shares[..., term, None]
    return output.permute(0, 2, 1).reshape(-1, channels, *pooled).to(input.dtype)


def _sample_places(pooled: tuple[int, int], sampling_ratio: int) -> list[list[list[float]]]:
    """Of each bin the samples, y and x, counted in bins."""
    steps = [(i + 0.5) / sampling_ratio for i in range(sampling_ratio)]
    return [
        [[y + step_y, x + step_x] for step_y in steps for step_x in steps]
        for y in range(pooled[0])
        for x in range(pooled[1])
    ]


def _beside(tensor: Tensor, maps: Tensor) -> Tensor:
    """In the type to compute maps in."""
    return tensor.to(torch.float64 if maps.dtype == torch.float64 else torch.float32)
