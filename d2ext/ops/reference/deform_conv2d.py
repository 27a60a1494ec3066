"""Deformable convolution in plain PyTorch."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.ops.reference.embedding_bags import (
    Corners,
    bilinear_corners,
    sum_bags,
    sum_bags_backward,
)
from d2ext.ops.reference.floats import in_float, pair_like


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
    """Compute a deformable convolution: sample the input at the offsets, then one matrix product.

    Half types are sampled in float32 and multiplied in the dtype of `weight`. Shapes as in
    `d2ext.ops.deform_conv2d`; the geometry is (vertical, horizontal).
    """
    sampled = _sample(input, offset, weight, mask, stride, padding, dilation)
    kernels = _by_group(weight, input.shape[1])
    # n: output locations, t: taps, g: groups, c: channels of a group, o: outputs of a group.
    output = torch.einsum("ntgc,gotc->ngo", _by_tap(sampled.samples, kernels), kernels)
    output = output.reshape(*sampled.corners.pixel.shape[:3], weight.shape[0])
    if bias is not None:
        output = output + bias
    # A copy: autograd forbids to change views that operators return in place.
    return output.to(input.dtype).permute(0, 3, 1, 2).clone()


def deform_conv2d_backward(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    needs_input: bool = True,
    needs_positions: bool = True,
    needs_weight: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of input, offset, weight and mask, in their dtypes.

    Those that are not needed are empty, and so is the last one without a mask.
    """
    # Sampled once more: kept from the forward pass, the samples would be the largest tensor of all.
    sampled = _sample(input, offset, weight, mask, stride, padding, dilation)
    corners, factors, samples = sampled.corners, sampled.factors, sampled.samples
    kernels = _by_group(weight, input.shape[1])

    count = grad_output.shape[0] * grad_output.shape[2] * grad_output.shape[3]
    grad_rows = grad_output.to(weight.dtype).permute(0, 2, 3, 1)
    grad_rows = grad_rows.reshape(count, *kernels.shape[:2])
    grad_weight = input.new_empty(0)
    if needs_weight:
        grad_kernels = torch.einsum("ngo,ntgc->gotc", grad_rows, _by_tap(samples, kernels))
        grad_weight = _from_groups(grad_kernels, weight)
    if not (needs_input or needs_positions):
        return input.new_empty(0), input.new_empty(0), grad_weight, input.new_empty(0)
    grad_samples = torch.einsum("ngo,gotc->ntgc", grad_rows, kernels).reshape(samples.shape)
    # `products`: scalar products over channels of the gradient with the four pixels of a sample.
    grad_table, products = sum_bags_backward(
        in_float(grad_samples), sampled.table, sampled.bags, corners.weight * factors
    )
    products = products.view_as(corners.weight)
    grad_positions = (corners.slopes * (products * factors).unsqueeze(-1)).sum(-2)
    grad_mask = (corners.weight * products).sum(-1)

    batch, channels, height, width = input.shape
    grad_input = grad_table.view(batch, height, width, channels).permute(0, 3, 1, 2)
    grad_offset = grad_positions.permute(0, 4, 3, 5, 1, 2).reshape(offset.shape).contiguous()
    if mask is not None:
        grad_mask = grad_mask.permute(0, 4, 3, 1, 2).reshape(mask.shape).to(mask.dtype)
    return (
        grad_input.to(input.dtype) if needs_input else input.new_empty(0),
        grad_offset.to(offset.dtype) if needs_positions else input.new_empty(0),
        grad_weight,
        grad_mask.contiguous() if needs_positions and mask is not None else input.new_empty(0),
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
    """Compute `deform_conv2d` with operators that exporters know.

    All samples are in memory at once.
    """
    positions = _sampling_positions(in_float(offset), weight.shape[2:], stride, padding, dilation)
    batch, out_height, out_width, taps, groups, _ = positions.shape
    channels, height, width = input.shape[1:]
    sides = pair_like(positions, (width, height))
    # grid_sample's -1 and 1 are the outer borders of the map, 1/2 pixel beyond the centres.
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
    samples = samples.to(weight.dtype).reshape(batch, len(kernels), -1, out_height, out_width, taps)
    output = torch.einsum("bgcyxt,gotc->bgoyx", samples, kernels)
    output = output.reshape(batch, weight.shape[0], out_height, out_width)
    return (output if bias is None else output + bias[:, None, None]).to(input.dtype)


def _sampling_positions(
    offset: Tensor, kernel: torch.Size, stride: list[int], padding: list[int], dilation: list[int]
) -> Tensor:
    """Return the position in the input that each tap of each output location reads.

    Args:
        offset: (B, 2 * groups * taps, H', W') in pixels.
        kernel: height and width of the kernel, in taps.
        stride, padding, dilation: (vertical, horizontal).
    Returns:
        (B, H', W', taps, groups, 2), y and x in pixels.
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


class _Sampled(NamedTuple):
    """Samples and what they were computed from, which both passes need.

    Attributes:
        corners: the four pixels of each sample, (B, H', W', taps, groups, 4).
        factors: the mask, (B, H', W', taps, groups, 1); ones without one.
        table: see `_as_table`.
        bags: see `_as_bags`.
        samples: (B * H' * W' * taps * groups, C / groups), dtype of the input.
    """

    corners: Corners
    factors: Tensor
    table: Tensor
    bags: Tensor
    samples: Tensor


def _sample(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> _Sampled:
    positions = _sampling_positions(in_float(offset), weight.shape[2:], stride, padding, dilation)
    corners = bilinear_corners(positions, *input.shape[2:])
    factors = _as_factors(mask, corners)
    table, bags = _as_table(in_float(input), corners), _as_bags(input, corners)
    samples = sum_bags(table, bags, corners.weight * factors).to(input.dtype)
    return _Sampled(corners, factors, table, bags, samples)


def _as_table(input: Tensor, corners: Corners) -> Tensor:
    """Reshape (B, C, H, W) maps to (B * H * W * offset groups, C / offset groups)."""
    groups = corners.pixel.shape[4]
    return input.permute(0, 2, 3, 1).reshape(-1, input.shape[1] // groups)


def _as_bags(input: Tensor, corners: Corners) -> Tensor:
    """Return the (N, 4) rows of the table, N counting through (B, H', W', taps, offset groups)."""
    batch, _, height, width = input.shape
    groups = corners.pixel.shape[4]
    image = torch.arange(batch, device=input.device).view(-1, 1, 1, 1, 1, 1)
    group = torch.arange(groups, device=input.device).view(-1, 1)
    return ((corners.pixel + image * (height * width)) * groups + group).reshape(-1, 4)


def _as_factors(mask: Tensor | None, corners: Corners) -> Tensor:
    """Reshape a (B, groups * taps, H', W') mask to (B, H', W', taps, groups, 1)."""
    batch, out_height, out_width, taps, groups, _ = corners.pixel.shape
    if mask is None:
        return torch.ones_like(corners.weight[..., :1])
    maps = in_float(mask).reshape(batch, groups, taps, out_height, out_width)
    return maps.permute(0, 3, 4, 2, 1).unsqueeze(-1)


def _by_group(weight: Tensor, channels: int) -> Tensor:
    """Reshape (C', C / groups, kh, kw) weights to (groups, C' / groups, taps, C / groups)."""
    out_channels, group_channels = weight.shape[:2]
    groups, taps = channels // group_channels, weight.shape[2] * weight.shape[3]
    by_tap = weight.permute(0, 2, 3, 1)
    return by_tap.reshape(groups, out_channels // groups, taps, group_channels)


def _from_groups(kernels: Tensor, weight: Tensor) -> Tensor:
    """Invert `_by_group`: restore the shape of `weight`."""
    out_channels, group_channels, kernel_height, kernel_width = weight.shape
    by_tap = kernels.reshape(out_channels, kernel_height, kernel_width, group_channels)
    return by_tap.permute(0, 3, 1, 2).contiguous()


def _by_tap(samples: Tensor, kernels: Tensor) -> Tensor:
    """Reshape samples, one row per bag, to (locations, taps, groups, C / groups)."""
    groups, _, taps, group_channels = kernels.shape
    return samples.to(kernels.dtype).view(-1, taps, groups, group_channels)
