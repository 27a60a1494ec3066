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
    dtype = input.dtype
    input, offset, weight = _at_least_float32(input, offset, weight)
    y, x = sampling_positions(offset, weight.shape[2:], stride, padding, dilation)
    samples = _sample(input, y, x, None if mask is None else mask.to(input.dtype))
    kernels = _by_group(weight, input.shape[1])
    output = torch.einsum("ntgc,goct->ngo", _split(samples, kernels), kernels)
    output = output.reshape(*y.shape[:3], weight.shape[0])
    if bias is not None:
        output = output + bias
    return output.permute(0, 3, 1, 2).to(dtype)


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

    Samples once more: the samples are the largest tensor of all, and nobody kept them.
    """
    sources = [input, offset] if mask is None else [input, offset, mask]
    grad_output, weight_, *sources_ = _at_least_float32(grad_output, weight, *sources)
    with torch.enable_grad():
        leaves = [source.detach().requires_grad_() for source in sources_]
        y, x = sampling_positions(leaves[1], weight.shape[2:], stride, padding, dilation)
        samples = _sample(leaves[0], y, x, None if mask is None else leaves[2])
    kernels = _by_group(weight_, input.shape[1])
    grad_rows = grad_output.permute(0, 2, 3, 1).reshape(-1, *kernels.shape[:2])
    grad_kernels = torch.einsum("ngo,ntgc->goct", grad_rows, _split(samples.detach(), kernels))
    grad_samples = torch.einsum("ngo,goct->ntgc", grad_rows, kernels).reshape(samples.shape)
    grads = torch.autograd.grad(samples, leaves, grad_samples)
    grad_input, grad_offset, *grad_mask = (grad.to(input.dtype) for grad in grads)
    grad_weight = grad_kernels.reshape(weight.shape).to(weight.dtype)
    return grad_input, grad_offset, grad_weight, grad_mask[0] if grad_mask else input.new_empty(0)


def sampling_positions(
    offset: Tensor, kernel: torch.Size, stride: list[int], padding: list[int], dilation: list[int]
) -> tuple[Tensor, Tensor]:
    """y and x, in pixels of the input, where each tap of each output location reads.

    Both are (B, H', W', taps, offset groups), from `offset` (B, 2 * groups * taps, H', W').
    """
    batch, channels, out_height, out_width = offset.shape
    taps = kernel[0] * kernel[1]
    shifts = offset.reshape(batch, channels // (2 * taps), taps, 2, out_height, out_width)
    shift_y, shift_x = shifts.permute(0, 4, 5, 2, 1, 3).unbind(-1)

    def steps(count: int, step: int) -> Tensor:
        return torch.arange(count, device=offset.device, dtype=offset.dtype) * step

    tap_y = steps(kernel[0], dilation[0]).repeat_interleave(kernel[1])
    tap_x = steps(kernel[1], dilation[1]).repeat(kernel[0])
    y = (steps(out_height, stride[0]) - padding[0])[:, None, None, None] + tap_y[:, None]
    x = (steps(out_width, stride[1]) - padding[1])[:, None, None] + tap_x[:, None]
    return y + shift_y, x + shift_x


def _sample(input: Tensor, y: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
    """Interpolated input at the positions: (B * H' * W', taps, C).

    A pixel is a row of a table, and a sample is the weighted sum of its four corners' rows: an
    embedding bag of four, which PyTorch computes forward and backward without a temporary.
    """
    batch, channels, height, width = input.shape
    _, out_height, out_width, taps, groups = y.shape
    table = input.permute(0, 2, 3, 1).reshape(-1, channels // groups)
    corners, weights = _bilinear_corners(y, x, height, width)
    if mask is not None:
        share = mask.reshape(batch, groups, taps, out_height, out_width).permute(0, 3, 4, 2, 1)
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


def _by_group(weight: Tensor, channels: int) -> Tensor:
    """(C', C / groups, kh, kw) weights: (groups, C' / groups, C / groups, taps)."""
    return weight.reshape(channels // weight.shape[1], -1, weight.shape[1], weight[0, 0].numel())


def _split(samples: Tensor, kernels: Tensor) -> Tensor:
    """(N, taps, C) samples: (N, taps, groups, C / groups)."""
    return samples.unflatten(-1, (kernels.shape[0], kernels.shape[2]))


def _at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    half = (torch.float16, torch.bfloat16)
    return tuple(t.float() if t.dtype in half else t for t in tensors)
