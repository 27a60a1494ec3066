"""An affine map of each channel with bounds: frozen batch norm and ReLU in one pass."""

import math
from typing import Any

import torch
from torch import Tensor

from d2ext.ops import reference
from d2ext.ops.checks import check_float_tensor
from d2ext.ops.decomposition import register_decomposition
from d2ext.ops.differentiation import register_differentiable_once

torch.library.define(
    "d2ext::channel_affine",
    "(Tensor input, Tensor scale, Tensor shift, float low, float high) -> Tensor",
)
torch.library.define(
    "d2ext::channel_affine_backward",
    "(Tensor grad_output, Tensor output, Tensor scale, float low, float high) -> Tensor",
)
torch.library.impl("d2ext::channel_affine", "CompositeExplicitAutograd", reference.channel_affine)
torch.library.impl(
    "d2ext::channel_affine_backward",
    "CompositeExplicitAutograd",
    reference.channel_affine_backward,
)


def channel_affine(
    input: Tensor,
    scale: Tensor,
    shift: Tensor,
    low: float = -math.inf,
    high: float = math.inf,
) -> Tensor:
    """Compute `input * scale + shift` per channel, clamped: frozen batch norm and its activation.

    Bounds of 0 and infinity are ReLU, 0 and 6 ReLU6. For the backward pass only the output is
    kept, which the next layer keeps anyway.

    Args:
        input: (B, C, H, W) floats, half types included; channels-last is read without a copy.
        scale, shift: (C,) floats, in any of the dtypes; constants without a gradient.
        low, high: bounds of the output.
    Returns:
        Shape and dtype of `input`, in channels-last memory. Half types are computed in float32.
        Differentiable once with respect to `input`; the gradient is 0 at a bound.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other, or `scale` or `shift` requires
            a gradient.
    """
    if input.ndim != 4 or scale.shape != input.shape[1:2] or shift.shape != scale.shape:
        raise ValueError(
            "input must be (B, C, H, W), scale and shift (C,), "
            f"got {tuple(input.shape)}, {tuple(scale.shape)} and {tuple(shift.shape)}"
        )
    for tensor in (input, scale, shift):
        check_float_tensor(tensor, input.device)
    if scale.requires_grad or shift.requires_grad:
        raise ValueError("scale and shift have no gradient: detach them")
    return torch.ops.d2ext.channel_affine(input, scale, shift, low, high)


@torch.library.register_fake("d2ext::channel_affine")
def _fake(input: Tensor, *_: object) -> Tensor:
    return input.new_empty(input.shape).contiguous(memory_format=torch.channels_last)


@torch.library.register_fake("d2ext::channel_affine_backward")
def _fake_backward(grad_output: Tensor, output: Tensor, *_: object) -> Tensor:
    return _fake(output)


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    _, scale, _, *ctx.bounds = inputs
    # An activation that follows in place may change an output without bounds, which is not needed.
    kept = () if ctx.bounds == [-math.inf, math.inf] else (output,)
    ctx.save_for_backward(scale, *kept)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    scale, *output = ctx.saved_tensors
    if output:
        operator = torch.ops.d2ext.channel_affine_backward
        grad = operator(grad_output, *output, scale, *ctx.bounds)
    else:
        grad = torch.ops.d2ext.channel_affine(
            grad_output, scale, torch.zeros_like(scale), *ctx.bounds
        )
    return grad, None, None, None, None


torch.library.register_autograd("d2ext::channel_affine", _backward, setup_context=_save)
register_differentiable_once("channel_affine")
register_decomposition("channel_affine", reference.channel_affine)
