"""RoI align in plain PyTorch, upright and rotated.

A bin is a weighted sum of pixels, see `embedding_bags`; here bags have different sizes.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.ops.reference.embedding_bags import sum_bags_backward_table
from d2ext.ops.reference.floats import pair_like

MOST_SAMPLES = 1024  # along a side of a region whose size sets their number, as in the kernels


class Frames(NamedTuple):
    """Regions in pixels of the maps; the centre of the first pixel is at 0.

    Attributes:
        image: (K,) int64 indices into the batch.
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
    aligned: bool = True,
) -> Tensor:
    """Pool upright regions, (K, 5), or rotated ones, (K, 6), which are always aligned.

    Shapes as in `d2ext.ops.roi_align` and `roi_align_rotated`; `sampling_ratio` 0 is adaptive.
    """
    frames = _frames(rois, input.dtype, spatial_scale, aligned)
    batch, channels, height, width = input.shape
    pooled = pooled_height, pooled_width
    bags = _bags(frames, pooled, sampling_ratio, (batch, height, width))
    bins = F.embedding_bag(
        bags.rows, _as_table(input), bags.starts, per_sample_weights=bags.weights, mode="sum"
    )
    output = bins.view(len(rois), *pooled, channels).permute(0, 3, 1, 2)
    return output.to(input.dtype).contiguous()


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
    """Return the (batch, C, height, width) gradient of the maps."""
    frames = _frames(rois, grad_output.dtype, spatial_scale, aligned)
    channels, *pooled = grad_output.shape[1:]
    bags = _bags(frames, (pooled[0], pooled[1]), sampling_ratio, (batch, height, width))
    table = sum_bags_backward_table(
        _as_table(grad_output), bags.rows, bags.bag_of_row, batch * height * width, bags.weights
    )
    grad_input = table.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return grad_input.to(grad_output.dtype).contiguous()


def roi_align_rotated_backward(
    grad_output: Tensor, rois: Tensor, spatial_scale: float, sampling_ratio: int, *maps: int
) -> Tensor:
    """Return the gradient of the maps for rotated regions; `maps` are batch, height and width."""
    return roi_align_backward(grad_output, rois, spatial_scale, sampling_ratio, True, *maps)


def roi_align_by_gathers(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool = True,
) -> Tensor:
    """Compute `roi_align` with operators that exporters know: one gather per corner of a sample.

    Raises:
        ValueError: `sampling_ratio` is 0, so that the number of samples depends on the data.
    """
    if sampling_ratio <= 0:
        raise ValueError(
            "sampling_ratio 0 takes as many samples as a region is large, which can't be exported; "
            "give a number, such as 2"
        )
    frames = _frames(rois, input.dtype, spatial_scale, aligned)
    pooled = pooled_height, pooled_width
    channels, height, width = input.shape[1:]
    table = _as_table(input)
    where = _sample_places(pooled, sampling_ratio, table)
    # The dtype is named for exports to ONNX by PyTorch 2.10, whose default there is a float.
    roi = torch.arange(len(frames.image), dtype=torch.int64, device=input.device).view(-1, 1, 1)
    pixels, shares = _corners(_positions(frames, roi, where, pooled), (height, width))
    rows = (pixels + (frames.image * height * width).view(-1, 1, 1, 1)).flatten(2)
    shares = shares.flatten(2) / sampling_ratio**2
    # One gather after another: all at once would need a tensor of every corner of every sample.
    output = torch.zeros((), dtype=table.dtype, device=input.device)
    for term in range(4 * sampling_ratio**2):
        output = output + table[rows[..., term]] * shares[..., term, None]
    return output.permute(0, 2, 1).reshape(-1, channels, *pooled).to(input.dtype)


def _frames(rois: Tensor, dtype: torch.dtype, scale: float, aligned: bool) -> Frames:
    # Before anything is computed: half types can't resolve positions in a large map.
    rois = rois.to(_accumulate_dtype(dtype))
    return _rotated(rois, scale) if rois.shape[1] == 6 else _upright(rois, scale, aligned)


def _upright(rois: Tensor, scale: float, aligned: bool) -> Frames:
    start, end = rois[:, 1:3].flip(1) * scale, rois[:, 3:5].flip(1) * scale
    size = end - start if aligned else (end - start).clamp(min=1)
    # Coordinates count from the map's border, positions from the centre of its first pixel.
    center = start + size / 2 - (0.5 if aligned else 0.0)
    one = rois.new_full((rois.shape[0],), 1.0)
    return Frames(rois[:, 0].long(), center, size, one, 0 * one)


def _rotated(rois: Tensor, scale: float) -> Frames:
    angle = rois[:, 5].deg2rad()
    center, size = rois[:, 1:3].flip(1) * scale - 0.5, rois[:, 3:5].flip(1) * scale
    return Frames(rois[:, 0].long(), center, size, angle.cos(), angle.sin())


class _Bags(NamedTuple):
    """Bins as weighted sums of rows of the table.

    Attributes:
        rows, weights, bag_of_row: (N,) for each pixel read its row, its weight and its bin.
        starts: for each bin its first place in these.
    """

    rows: Tensor
    weights: Tensor
    bag_of_row: Tensor
    starts: Tensor


def _bags(
    frames: Frames, pooled: tuple[int, int], sampling_ratio: int, maps: tuple[int, int, int]
) -> _Bags:
    bins = pooled[0] * pooled[1]
    _check_images(frames.image, maps[0])
    # Regions have different numbers of samples, so all of them are numbered in one flat list.
    grid = torch.full_like(frames.size, sampling_ratio)
    if sampling_ratio <= 0:
        sampled = frames.size.clamp(0, MOST_SAMPLES).nan_to_num(0)
        grid = (sampled / pair_like(frames.size, pooled)).ceil()
    samples = grid.prod(1).long()  # per bin of each region
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


def _check_images(images: Tensor, batch: int) -> None:
    outside = images[(images < 0) | (images >= batch)]
    if len(outside):
        raise RuntimeError(f"a region is in image {int(outside[0])} of {batch}")


def _positions(frames: Frames, roi: Tensor, where: Tensor, pooled: tuple[int, int]) -> Tensor:
    """Return the (..., 2) y and x, in pixels, of the places `where`, in bins, of regions `roi`."""
    along = (where / pair_like(where, pooled) - 0.5) * frames.size[roi]
    along_y, along_x = along.unbind(-1)
    cos, sin = frames.cos[roi], frames.sin[roi]
    turned = (along_y * cos - along_x * sin, along_y * sin + along_x * cos)
    return frames.center[roi] + torch.stack(turned, -1)


def _corners(positions: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return row-major numbers and shares, (..., 4) both, of the four pixels around positions.

    The border is repeated up to one pixel outside the map; beyond, all
    shares are zero.
    """
    sizes = pair_like(positions, size)
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


def _sample_places(pooled: tuple[int, int], sampling_ratio: int, like: Tensor) -> Tensor:
    """Return y and x of the samples of each bin, in bins: (bins, samples, 2)."""
    shape = *pooled, sampling_ratio, sampling_ratio
    numbers = torch.arange(max(shape), dtype=like.dtype, device=like.device)
    steps = (numbers[:sampling_ratio] + 0.5) / sampling_ratio
    y, x = (numbers[:bins, None] + steps for bins in pooled)
    places = y[:, None, :, None].expand(shape), x[None, :, None, :].expand(shape)
    return torch.stack(places, -1).view(pooled[0] * pooled[1], sampling_ratio**2, 2)


def _as_table(maps: Tensor) -> Tensor:
    """Reshape (B, C, H, W) maps to (B * H * W, C), in the dtype to accumulate in."""
    return maps.to(_accumulate_dtype(maps.dtype)).permute(0, 2, 3, 1).flatten(0, 2)


def _accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return float64 for float64 maps, otherwise float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
