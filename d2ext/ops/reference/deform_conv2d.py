"""Deformable convolution in plain PyTorch."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.ops.reference.floats import in_float


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

    Half types are sampled in float32 and multiplied as they are. Shapes as in
    `d2ext.ops.deform_conv2d`.
    """
    positions = sampling_positions(in_float(offset), weight.shape[2:], stride, padding, dilation)
    corners = bilinear_corners(positions, *input.shape[2:])
    table, bags = _as_table(in_float(input), corners), _as_bags(input, corners)
    kernels = _by_group(weight, input.shape[1])
    samples = _sum_bags(table, bags, corners.weight * _as_factors(mask, corners)).to(input.dtype)
    output = torch.einsum("ntgc,gotc->ngo", _by_tap(samples, kernels), kernels)
    output = output.reshape(*positions.shape[:3], weight.shape[0])
    if bias is not None:
        output = output + bias
    return output.permute(0, 3, 1, 2)


def deform_conv2d_backward(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of input, offset, weight and mask (empty without one), in their dtypes.

    Samples once more: the samples are the largest tensor of all, so the forward pass drops them.
    """
    positions = sampling_positions(in_float(offset), weight.shape[2:], stride, padding, dilation)
    corners = bilinear_corners(positions, *input.shape[2:])
    table, bags = _as_table(in_float(input), corners), _as_bags(input, corners)
    kernels = _by_group(weight, input.shape[1])
    factors = _as_factors(mask, corners)
    samples = _sum_bags(table, bags, corners.weight * factors).to(input.dtype)

    count = grad_output.shape[0] * grad_output.shape[2] * grad_output.shape[3]
    grad_rows = grad_output.permute(0, 2, 3, 1).reshape(count, *kernels.shape[:2])
    grad_kernels = torch.einsum("ngo,ntgc->gotc", grad_rows, _by_tap(samples, kernels))
    grad_samples = torch.einsum("ngo,gotc->ntgc", grad_rows, kernels).reshape(samples.shape)
    grad_table, products = _sum_bags_backward(
        in_float(grad_samples), table, bags, corners.weight * factors
    )
    products = products.view_as(corners.weight)
    grad_positions = (corners.slopes * (products * factors).unsqueeze(-1)).sum(-2)
    grad_mask = (corners.weight * products).sum(-1)

    batch, channels, height, width = input.shape
    grad_input = grad_table.view(batch, height, width, channels).permute(0, 3, 1, 2)
    grad_offset = grad_positions.permute(0, 4, 3, 5, 1, 2).reshape(offset.shape).contiguous()
    grad_weight = _from_groups(grad_kernels, weight)
    if mask is None:
        grad_mask = input.new_empty(0)
    else:
        grad_mask = grad_mask.permute(0, 4, 3, 1, 2).reshape(mask.shape).to(mask.dtype)
    return (
        grad_input.to(input.dtype),
        grad_offset.to(offset.dtype),
        grad_weight,
        grad_mask.contiguous(),
    )


def deform_conv2d_by_grid_sample(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> Tensor:
    """The same in operators that exporters know, at the cost of all samples in memory at once."""
    positions = sampling_positions(in_float(offset), weight.shape[2:], stride, padding, dilation)
    batch, out_height, out_width, taps, groups, _ = positions.shape
    channels, height, width = input.shape[1:]
    sides = positions.new_tensor([width, height])
    grid = ((2 * positions.flip(-1) + 1) / sides - 1).permute(0, 4, 1, 2, 3, 5)
    samples = F.grid_sample(
        in_float(input).reshape(batch * groups, channels // groups, height, width),
        grid.reshape(batch * groups, out_height, out_width * taps, 2),
        align_corners=False,
    ).view(batch, groups, -1, out_height, out_width, taps)
    if mask is not None:
        factors = in_float(mask).reshape(batch, groups, 1, taps, out_height, out_width)
        samples = samples * factors.permute(0, 1, 2, 4, 5, 3)
    kernels = _by_group(weight, channels)
    samples = samples.to(input.dtype).reshape(batch, len(kernels), -1, out_height, out_width, taps)
    output = torch.einsum("bgcyxt,gotc->bgoyx", samples, kernels)
    output = output.reshape(batch, weight.shape[0], out_height, out_width)
    return output if bias is None else output + bias[:, None, None]


def sampling_positions(
    offset: Tensor, kernel: torch.Size, stride: list[int], padding: list[int], dilation: list[int]
) -> Tensor:
    """Pixels of the input, y and x, that each tap of each output location reads.

    Args:
        offset: (B, 2 * groups * taps, H', W') pixels.
    Returns:
        (B, H', W', taps, groups, 2).
    """
    batch, channels, out_height, out_width = offset.shape
    taps = kernel[0] * kernel[1]
    shifts = offset.reshape(batch, channels // (2 * taps), taps, 2, out_height, out_width)

    def steps(count: int, step: int) -> Tensor:
        return torch.arange(count, device=offset.device, dtype=offset.dtype) * step

    tap_y = steps(kernel[0], dilation[0]).repeat_interleave(kernel[1])
    tap_x = steps(kernel[1], dilation[1]).repeat(kernel[0])
    location_y = steps(out_height, stride[0])[:, None] - padding[0]
    location_x = steps(out_width, stride[1])[:, None] - padding[1]
    y = (location_y + tap_y)[:, None, :, None].expand(-1, out_width, -1, 1)
    x = (location_x + tap_x)[None, :, :, None].expand(out_height, -1, -1, 1)
    return torch.stack((y, x), dim=-1) + shifts.permute(0, 4, 5, 2, 1, 3)


class Corners(NamedTuple):
    """The four pixels around each position; those outside the image have zeros for weights.

    Attributes:
        pixel: (..., 4) row-major numbers of pixels.
        weight: (..., 4) share of each pixel in the interpolated value.
        slopes: (..., 4, 2) derivatives of the weight by y and x.
    """

    pixel: Tensor
    weight: Tensor
    slopes: Tensor


def bilinear_corners(positions: Tensor, height: int, width: int) -> Corners:
    """The corners of `positions`, (..., 2) y and x in pixels, in maps of that size."""
    steps = positions.new_tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    corners = positions.floor().unsqueeze(-2) + steps  # (..., 4, 2)
    shares = 1 - (positions.unsqueeze(-2) - corners).abs()
    limits = positions.new_tensor([height, width])
    inside = ((corners >= 0) & (corners < limits)).all(-1)
    # Zero times a pixel that is not finite is no zero: outside ones stand beside a near neighbour.
    near = torch.minimum(corners.clamp(min=0), limits - 1).nan_to_num(0).long()
    slopes = shares.flip(-1) * (2 * steps - 1) * inside.unsqueeze(-1)
    return Corners(near[..., 0] * width + near[..., 1], shares.prod(-1) * inside, slopes)


# A pixel's channels are a row of a table, and a sample is the weighted sum of four rows: a bag of
# embeddings, which PyTorch sums, forward and backward, without a temporary.


def _as_table(input: Tensor, corners: Corners) -> Tensor:
    """(B, C, H, W) maps: (B * H * W * offset groups, C / offset groups)."""
    groups = corners.pixel.shape[4]
    return input.permute(0, 2, 3, 1).reshape(-1, input.shape[1] // groups)


def _as_bags(input: Tensor, corners: Corners) -> Tensor:
    """(N, 4) rows of the table, N counting through (B, H', W', taps, offset groups)."""
    batch, _, height, width = input.shape
    groups = corners.pixel.shape[4]
    image = torch.arange(batch, device=input.device).view(-1, 1, 1, 1, 1, 1)
    group = torch.arange(groups, device=input.device).view(-1, 1)
    return ((corners.pixel + image * (height * width)) * groups + group).reshape(-1, 4)


def _as_factors(mask: Tensor | None, corners: Corners) -> Tensor:
    """(B, groups * taps, H', W') masks: (B, H', W', taps, groups, 1)."""
    batch, out_height, out_width, taps, groups, _ = corners.pixel.shape
    if mask is None:
        return torch.ones_like(corners.weight[..., :1])
    maps = in_float(mask).reshape(batch, groups, taps, out_height, out_width)
    return maps.permute(0, 3, 4, 2, 1).unsqueeze(-1)


def _sum_bags(table: Tensor, bags: Tensor, weights: Tensor) -> Tensor:
    return F.embedding_bag(bags, table, per_sample_weights=weights.reshape(-1, 4), mode="sum")


def _sum_bags_backward(
    grad: Tensor, table: Tensor, bags: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of table and weights.

    By the operators behind `F.embedding_bag`: where a dispatch mode watches (a counter of
    operations, a checkpointing policy), autograd does not record what runs below an operator.
    """
    rows, offsets = bags.flatten(), torch.arange(0, bags.numel(), 4, device=bags.device)
    bag_of_row = torch.arange(len(bags), device=bags.device).repeat_interleave(4)
    nothing, mode_sum = rows.new_empty(0), 0
    grad_table = torch.ops.aten._embedding_bag_dense_backward(
        grad, rows, bag_of_row, nothing, nothing, len(table), False, mode_sum, weights.reshape(-1)
    )
    grad_weights = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        grad, table, rows, offsets, bag_of_row, mode_sum
    )
    return grad_table, grad_weights


def _by_group(weight: Tensor, channels: int) -> Tensor:
    """(C', C / groups, kh, kw) weights: (groups, C' / groups, taps, C / groups)."""
    out_channels, group_channels = weight.shape[:2]
    groups, taps = channels // group_channels, weight.shape[2] * weight.shape[3]
    by_tap = weight.permute(0, 2, 3, 1)
    return by_tap.reshape(groups, out_channels // groups, taps, group_channels)


def _from_groups(kernels: Tensor, weight: Tensor) -> Tensor:
    """What `_by_group` gives, in the shape of `weight` again."""
    out_channels, group_channels, kernel_height, kernel_width = weight.shape
    by_tap = kernels.reshape(out_channels, kernel_height, kernel_width, group_channels)
    return by_tap.permute(0, 3, 1, 2).contiguous()


def _by_tap(samples: Tensor, kernels: Tensor) -> Tensor:
    """Samples, a row a bag: (locations, taps, groups, C / groups)."""
    groups, _, taps, group_channels = kernels.shape
    return samples.view(-1, taps, groups, group_channels)
