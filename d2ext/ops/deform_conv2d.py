"""Deformable convolution, versions 1 and 2.

Source: Dai et al., "Deformable Convolutional Networks", 2017, arXiv:1703.06211, section 2.1, and
Zhu et al., "Deformable ConvNets v2", 2019, arXiv:1811.11168, equation 1 (the mask).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from d2ext.ops import reference
from d2ext.ops.decomposition import register_decomposition
from d2ext.ops.determinism import alert_not_deterministic
from d2ext.ops.differentiation import register_differentiable_once

_GEOMETRY = "SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation"

torch.library.define(
    "d2ext::deform_conv2d",
    "(Tensor input, Tensor offset, Tensor weight, Tensor? bias, Tensor? mask, "
    f"{_GEOMETRY}) -> Tensor",
)
torch.library.define(
    "d2ext::deform_conv2d_backward",
    "(Tensor grad_output, Tensor input, Tensor offset, Tensor weight, Tensor? mask, "
    f"{_GEOMETRY}) -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.impl("d2ext::deform_conv2d", "CompositeExplicitAutograd", reference.deform_conv2d)
torch.library.impl(
    "d2ext::deform_conv2d_backward", "CompositeExplicitAutograd", reference.deform_conv2d_backward
)


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Convolution whose taps read at learnt positions, by bilinear interpolation; zeros outside.

    Args:
        input: (B, C, H, W) floats, half types included; channels-last is read without a copy.
            Its dtype is also that of weight and bias, while offset and mask may be float32 beside
            half types. Under autocast these three are cast; positions are always float32.
        offset: (B, 2 * G * kh * kw, H', W') pixels, y before x for each tap of each of the G
            offset groups; G divides C, and group g moves the g-th C / G channels.
        weight: (C', C / groups, kh, kw); its shape says the number of groups.
        bias: (C',).
        stride, padding, dilation: as in a convolution, one number or (vertical, horizontal).
        mask: (B, G * kh * kw, H', W') factors of the samples; None is version 1.
    Returns:
        (B, C', H', W'), dtype of `input`, in channels-last memory. Differentiable once.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other.
        RuntimeError: deterministic algorithms are asked for, and the gradient of `input` on CUDA.
    """
    geometry = _pair(stride), _pair(padding), _pair(dilation)
    input, weight, bias = _autocast(input, weight, bias)
    _check_floats(input, weight, bias, offset, mask)
    _check_shapes(input, weight, bias)
    size = _output_size(input, weight, *geometry)
    _check_offsets(input, offset, weight, mask, size)
    return torch.ops.d2ext.deform_conv2d(input, offset, weight, bias, mask, *geometry)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _autocast(
    input: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    kind = input.device.type
    if not torch.is_autocast_enabled(kind):
        return input, weight, bias
    dtype = torch.get_autocast_dtype(kind)
    cast = [_cast(tensor, dtype) for tensor in (input, weight)]
    return cast[0], cast[1], None if bias is None else _cast(bias, dtype)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    is_cast = tensor.is_floating_point() and tensor.dtype != torch.float64
    return tensor.to(dtype) if is_cast else tensor


def _check_floats(
    input: Tensor, weight: Tensor, bias: Tensor | None, offset: Tensor, mask: Tensor | None
) -> None:
    half = input.dtype in (torch.float16, torch.bfloat16)
    for tensor in (input, weight, bias, offset, mask):
        if tensor is None:
            continue
        if not tensor.is_floating_point() or tensor.device != input.device:
            raise ValueError(
                f"expected floats on {input.device}, got {tensor.dtype} on {tensor.device}"
            )
        is_position = tensor is offset or tensor is mask
        if tensor.dtype != input.dtype and not (
            half and is_position and tensor.dtype == torch.float32
        ):
            raise ValueError(f"expected one dtype, got {input.dtype} and {tensor.dtype}")


def _check_shapes(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if input.ndim != 4 or weight.ndim != 4:
        raise ValueError(
            "input must be (B, C, H, W) and weight (C', C / groups, kh, kw), "
            f"got {tuple(input.shape)} and {tuple(weight.shape)}"
        )
    channels, (out_channels, group_channels) = input.shape[1], weight.shape[:2]
    groups = channels // max(group_channels, 1)
    if groups < 1 or channels != groups * group_channels or out_channels % groups:
        raise ValueError(
            f"weight {tuple(weight.shape)} fits no number of groups of {channels} channels"
        )
    if bias is not None and bias.shape != (out_channels,):
        raise ValueError(f"bias must be ({out_channels},), got {tuple(bias.shape)}")


def _output_size(
    input: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    if min(stride) < 1 or min(dilation) < 1 or min(padding) < 0:
        raise ValueError(f"stride {stride}, padding {padding} or dilation {dilation} is too small")
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    padded = [n + 2 * p for n, p in zip(input.shape[2:], padding, strict=True)]
    if padded[0] < spans[0] or padded[1] < spans[1]:
        raise ValueError(f"the kernel spans {spans} pixels, the padded input has only {padded}")
    return (padded[0] - spans[0]) // stride[0] + 1, (padded[1] - spans[1]) // stride[1] + 1


def _check_offsets(
    input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, size: tuple[int, int]
) -> None:
    taps = weight.shape[2] * weight.shape[3]
    groups = offset.shape[1] // (2 * taps) if offset.ndim == 4 else 0
    expected = (input.shape[0], 2 * groups * taps, *size)
    if groups < 1 or input.shape[1] % groups or offset.shape != expected:
        raise ValueError(
            f"offset must be ({input.shape[0]}, {2 * taps} * groups, {size[0]}, {size[1]}), "
            f"groups dividing {input.shape[1]} channels, got {tuple(offset.shape)}"
        )
    expected = (input.shape[0], groups * taps, *size)
    if mask is not None and mask.shape != expected:
        raise ValueError(f"mask must be {expected}, got {tuple(mask.shape)}")


def _with_autocast(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    *geometry: list[int],
) -> Tensor:
    input, weight, bias = _autocast(input, weight, bias)
    with torch.autocast(input.device.type, enabled=False):  # what is float64 stays so inside
        return torch.ops.d2ext.deform_conv2d(input, offset, weight, bias, mask, *geometry)


for _key in ("AutocastCPU", "AutocastCUDA"):
    torch.library.impl("d2ext::deform_conv2d", _key, _with_autocast)


@torch.library.register_fake("d2ext::deform_conv2d")
def _fake(input: Tensor, offset: Tensor, weight: Tensor, *_: object) -> Tensor:
    return _channels_last(input, (input.shape[0], weight.shape[0], *offset.shape[2:]))


@torch.library.register_fake("d2ext::deform_conv2d_backward")
def _fake_backward(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    *_: object,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_mask = input.new_empty(0) if mask is None else mask.new_empty(mask.shape)
    grad_input = _channels_last(input, input.shape)
    return grad_input, offset.new_empty(offset.shape), weight.new_empty(weight.shape), grad_mask


def _channels_last(like: Tensor, size: Sequence[int]) -> Tensor:
    batch, channels, height, width = size
    return like.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    input, offset, weight, bias, mask, *ctx.geometry = inputs
    ctx.save_for_backward(input, offset, weight, mask)
    ctx.has_bias, ctx.has_mask = bias is not None, mask is not None


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    if grad_output.is_cuda and ctx.needs_input_grad[0]:
        alert_not_deterministic("the gradient of deform_conv2d", grad_output)
    grad_input, grad_offset, grad_weight, grad_mask = torch.ops.d2ext.deform_conv2d_backward(
        grad_output, *ctx.saved_tensors, *ctx.geometry
    )
    grad_bias = grad_output.sum((0, 2, 3)) if ctx.has_bias else None
    grads = grad_input, grad_offset, grad_weight, grad_bias, grad_mask if ctx.has_mask else None
    return *grads, None, None, None


torch.library.register_autograd("d2ext::deform_conv2d", _backward, setup_context=_save)
register_differentiable_once("deform_conv2d")
register_decomposition("deform_conv2d", reference.deform_conv2d_by_grid_sample)
