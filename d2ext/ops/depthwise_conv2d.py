"""Depthwise convolution: each channel has its own kernel (Chollet 2017, arXiv:1610.02357)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.utils import _pair

from d2ext.ops import reference
from d2ext.ops.autocast import cast_convolution
from d2ext.ops.checks import check_dtypes
from d2ext.ops.decomposition import register_decomposition
from d2ext.ops.differentiation import register_differentiable_once

_GEOMETRY = "SymInt[2] stride, SymInt[4] padding, SymInt[2] dilation"

torch.library.define(
    "d2ext::depthwise_conv2d",
    f"(Tensor input, Tensor weight, Tensor? bias, {_GEOMETRY}) -> Tensor",
)
torch.library.define(
    "d2ext::depthwise_conv2d_backward",
    f"(Tensor grad_output, Tensor input, Tensor weight, {_GEOMETRY}, bool needs_input, "
    "bool needs_weight) -> (Tensor, Tensor)",
)
torch.library.impl(
    "d2ext::depthwise_conv2d", "CompositeExplicitAutograd", reference.depthwise_conv2d
)
torch.library.impl(
    "d2ext::depthwise_conv2d_backward",
    "CompositeExplicitAutograd",
    reference.depthwise_conv2d_backward,
)


def depthwise_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | tuple[int, int, int, int] = 0,
    dilation: int | tuple[int, int] = 1,
) -> Tensor:
    """Compute a depthwise convolution; on CPUs several times as fast as PyTorch in training.

    Args:
        input: (B, C, H, W) floats, half types included; channels-last is read without a copy.
            Weight and bias have the same dtype. Autocast casts all three.
        weight: (C, 1, kh, kw).
        bias: (C,).
        stride, dilation: as in `torch.nn.functional.conv2d`, one number or (vertical, horizontal).
        padding: zeros around the input, one number, (vertical, horizontal) or (left, right, top,
            bottom).
    Returns:
        (B, C, H', W'), dtype of `input`, in channels-last memory on CPUs. Half types are summed in
        float32. Differentiable once; only the gradients that are needed are computed.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other.
    """
    geometry = _pair(stride), _four(padding), _pair(dilation)
    input, weight, bias = cast_convolution(input, weight, bias)
    check_dtypes(input, weight, bias)
    _check_shapes(input, weight, bias, *geometry)
    return torch.ops.d2ext.depthwise_conv2d(input, weight, bias, *geometry)


def _four(padding: int | tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(padding, int) or len(padding) == 2:
        vertical, horizontal = _pair(padding)
        return horizontal, horizontal, vertical, vertical
    return padding


def _check_shapes(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, ...],
    dilation: tuple[int, int],
) -> None:
    if input.ndim != 4 or weight.ndim != 4 or weight.shape[:2] != (input.shape[1], 1):
        raise ValueError(
            "input must be (B, C, H, W) and weight (C, 1, kh, kw), "
            f"got {tuple(input.shape)} and {tuple(weight.shape)}"
        )
    if bias is not None and bias.shape != (input.shape[1],):
        raise ValueError(f"bias must be ({input.shape[1]},), got {tuple(bias.shape)}")
    if min(stride) < 1 or min(dilation) < 1 or min(padding) < 0:
        raise ValueError(f"stride {stride}, padding {padding} or dilation {dilation} is too small")
    if min(_output_size(input, weight, stride, padding, dilation)) < 1:
        raise ValueError(
            f"the kernel {tuple(weight.shape[2:])} with dilation {dilation} is larger than the "
            f"input {tuple(input.shape[2:])} with padding {padding}"
        )


def _output_size(
    input: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, ...],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    left, right, top, bottom = padding
    padded = input.shape[2] + top + bottom, input.shape[3] + left + right
    height, width = (
        (size - step * (kernel - 1) - 1) // each + 1
        for size, step, kernel, each in zip(padded, dilation, weight.shape[2:], stride, strict=True)
    )
    return height, width


def _depthwise_conv2d_autocast(
    input: Tensor, weight: Tensor, bias: Tensor | None, *geometry: list[int]
) -> Tensor:
    input, weight, bias = cast_convolution(input, weight, bias)
    # Off: otherwise the call would dispatch to this implementation again.
    with torch.autocast(input.device.type, enabled=False):
        return torch.ops.d2ext.depthwise_conv2d(input, weight, bias, *geometry)


for _key in ("AutocastCPU", "AutocastCUDA"):
    torch.library.impl("d2ext::depthwise_conv2d", _key, _depthwise_conv2d_autocast)


@torch.library.register_fake("d2ext::depthwise_conv2d")
def _fake(input: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
    batch, channels = input.shape[:2]
    return _empty(input, (batch, channels, *_output_size(input, weight, *geometry)))


@torch.library.register_fake("d2ext::depthwise_conv2d_backward")
def _fake_backward(
    grad_output: Tensor, input: Tensor, weight: Tensor, *options: Any
) -> tuple[Tensor, Tensor]:
    *_, needs_input, needs_weight = options
    grad_input = _empty(input, input.shape) if needs_input else input.new_empty(0)
    return grad_input, weight.new_empty(weight.shape if needs_weight else 0)


def _empty(like: Tensor, size: Sequence[int]) -> Tensor:
    return like.new_empty(size).contiguous(memory_format=torch.channels_last)


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    input, weight, bias, *ctx.geometry = inputs
    ctx.save_for_backward(input, weight)
    ctx.has_bias = bias is not None


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    needs_input, needs_weight = ctx.needs_input_grad[:2]
    grad_input, grad_weight = torch.ops.d2ext.depthwise_conv2d_backward(
        grad_output, *ctx.saved_tensors, *ctx.geometry, needs_input, needs_weight
    )
    return (
        grad_input if needs_input else None,
        grad_weight if needs_weight else None,
        grad_output.sum((0, 2, 3)) if ctx.has_bias else None,
        *[None] * 3,
    )


torch.library.register_autograd("d2ext::depthwise_conv2d", _backward, setup_context=_save)
register_differentiable_once("depthwise_conv2d")
register_decomposition("depthwise_conv2d", reference.depthwise_conv2d)
