"""Every operator in plain PyTorch: to read, to test kernels against, and where none was built."""

import torch
import torch.nn.functional as F
from torch import Tensor


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> Tensor:
    """Deformable convolution: sample the input where the offsets point, then one matrix product.

    Half types are computed in float32. Shapes as in `d2ext.ops.deform_conv2d`.
    """
    result_dtype = input.dtype
    if result_dtype in (torch.float16, torch.bfloat16):
        input, offset, weight = input.float(), offset.float(), weight.float()
        bias, mask = (None if t is None else t.float() for t in (bias, mask))
    batch, _, out_height, out_width = offset.shape
    y, x = sampling_positions(offset, weight.shape[2:], stride, padding, dilation)
    columns = _sample_columns(input, y, x, mask)
    rows = _multiply_groups(columns, weight)
    if bias is not None:
        rows = rows + bias
    output = rows.view(batch, out_height, out_width, -1).permute(0, 3, 1, 2)
    return output.to(result_dtype)


def sampling_positions(
    offset: Tensor, kernel: torch.Size, stride: list[int], padding: list[int], dilation: list[int]
) -> tuple[Tensor, Tensor]:
    """y and x, in pixels of the input, where each tap of each output location reads.

    Both are (B, H', W', taps, offset groups), from `offset` (B, 2 * groups * taps, H', W').
    """
    batch, channels, out_height, out_width = offset.shape
    taps = kernel[0] * kernel[1]
    shifts = offset.view(batch, channels // (2 * taps), taps, 2, out_height, out_width)
    shift_y, shift_x = shifts.permute(0, 4, 5, 2, 1, 3).unbind(-1)

    def steps(count: int, step: int) -> Tensor:
        return torch.arange(count, device=offset.device, dtype=offset.dtype) * step

    tap_y = steps(kernel[0], dilation[0]).repeat_interleave(kernel[1])
    tap_x = steps(kernel[1], dilation[1]).repeat(kernel[0])
    y = (steps(out_height, stride[0]) - padding[0])[:, None, None, None] + tap_y[:, None]
    x = (steps(out_width, stride[1]) - padding[1])[:, None, None] + tap_x[:, None]
    return y + shift_y, x + shift_x


def _sample_columns(input: Tensor, y: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
    """Interpolated input at the positions: (B * H' * W', taps, C).

    A pixel is a row of a table, and a sample is the weighted sum of its four corners' rows: an
    embedding bag of four, which PyTorch computes forward and backward without a temporary.
    """
    batch, channels, height, width = input.shape
    _, out_height, out_width, taps, groups = y.shape
    table = input.permute(0, 2, 3, 1).reshape(-1, channels // groups)
    corners, weights = _bilinear_corners(y, x, height, width)
    if mask is not None:
        share = mask.view(batch, groups, taps, out_height, out_width).permute(0, 3, 4, 2, 1)
        weights = weights * share.unsqueeze(-1)
    first_pixel = torch.arange(batch, device=y.device).view(-1, 1, 1, 1, 1, 1) * (height * width)
    group = torch.arange(groups, device=y.device).unsqueeze(-1)
    bags = (corners + first_pixel) * groups + group
    samples = F.embedding_bag(
        bags.reshape(-1, 4), table, per_sample_weights=weights.reshape(-1, 4), mode="sum"
    )
    return samples.view(-1, taps, channels)


def _bilinear_corners(y: Tensor, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Flat pixel numbers of the four pixels around each position and their weights: (..., 4) both.

    Pixels outside the image count as zeros: their weight is zero.
    """
    top, left = y.floor(), x.floor()
    below, right = y - top, x - left  # distances to the upper left corner, in [0, 1)
    corner_y = torch.stack((top, top, top + 1, top + 1), dim=-1)
    corner_x = torch.stack((left, left + 1, left, left + 1), dim=-1)
    weight_y = torch.stack((1 - below, 1 - below, below, below), dim=-1)
    weight_x = torch.stack((1 - right, right, 1 - right, right), dim=-1)
    inside = (corner_y >= 0) & (corner_y < height) & (corner_x >= 0) & (corner_x < width)
    pixel = torch.where(inside, corner_y * width + corner_x, 0).long()
    return pixel, weight_y * weight_x * inside


def _multiply_groups(columns: Tensor, weight: Tensor) -> Tensor:
    """(N, taps, C) columns by (C', C / groups, kh, kw) weights: (N, C')."""
    count, taps, channels = columns.shape
    out_channels, group_channels = weight.shape[:2]
    groups = channels // group_channels
    left = columns.view(count, taps, groups, group_channels).permute(2, 0, 1, 3)
    right = weight.view(groups, out_channels // groups, group_channels, taps).permute(0, 3, 2, 1)
    product = torch.bmm(
        left.reshape(groups, count, taps * group_channels),
        right.reshape(groups, taps * group_channels, out_channels // groups),
    )
    return product.permute(1, 0, 2).reshape(count, out_channels)
