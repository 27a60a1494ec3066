"""Deformable convolution (DCN), versions 1 and 2.

Source: Dai et al., "Deformable Convolutional Networks", 2017, arXiv:1703.06211, section 2.1, and
Zhu et al., "Deformable ConvNets v2", 2019, arXiv:1811.11168, equation 1 (the mask).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.utils import _pair

from d2ext.ops import reference
from d2ext.ops.autocast import cast_to_autocast
from d2ext.ops.checks import check_dtypes
from d2ext.ops.decomposition import register_decomposition
from d2ext.ops.determinism import alert_not_deterministic
from d2ext.ops.differentiation import register_differentiable_once

GEOMETRY = "SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation"

torch.library.define(
    "d2ext::deform_conv2d",
    "(Tensor input, Tensor offset, Tensor weight, Tensor? bias, Tensor? mask, "
    f"{GEOMETRY}) -> Tensor",
)
torch.library.define(
    "d2ext::deform_conv2d_backward",
    "(Tensor grad_output, Tensor input, Tensor offset, Tensor weight, Tensor? mask, "
    f"{GEOMETRY}, bool needs_input, bool needs_positions, bool needs_weight) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
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
    """Compute a deformable convolution: each kernel tap reads at its grid position plus an offset.

    Samples are interpolated bilinearly, with zeros outside the input. Written for one output
    location p and one group: y(p) = sum over taps k of w_k * x(p + p_k + offset_k) * mask_k.

    Args:
        input: (B, C, H, W) floats, half types included; channels-last is read without a copy.
            All others have the same dtype, or are float32 where `input` is of a half type. Autocast
            casts `input` only.
        offset: (B, 2 * G * kh * kw, H', W') in pixels of the input, y before x for each tap of each
            of the G offset groups; G divides C, and group g moves the g-th C / G channels.
        weight: (C', C / groups, kh, kw); the number of groups follows from its shape.
        bias: (C',).
        stride, padding, dilation: as in `torch.nn.functional.conv2d`, one number or (vertical,
            horizontal).
        mask: (B, G * kh * kw, H', W') modulation factor of each sample; None for version 1.
    Returns:
        (B, C', H', W'), dtype of `input`, in channels-last memory. Differentiable once.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other.
        RuntimeError: in the backward pass, if the gradient of `input` is asked for on CUDA under
            `torch.use_deterministic_algorithms(True)`.
    """
    geometry = _pair(stride), _pair(padding), _pair(dilation)
    input = cast_to_autocast(input, input.device.type)
    check_dtypes(input, or_float32=(offset, weight, bias, mask))
    check_deform_shapes(input, offset, weight, bias, mask, geometry)
    return torch.ops.d2ext.deform_conv2d(input, offset, weight, bias, mask, *geometry)


def check_deform_shapes(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    geometry: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
) -> None:
    """Raise unless the shapes of a deformable convolution's arguments fit each other.

    Args:
        geometry: stride, padding and dilation, (vertical, horizontal) each.
    Raises:
        ValueError: they do not.
    """
    _check_shapes(input, weight, bias)
    _check_offsets(input, offset, weight, mask, _output_size(input, weight, *geometry))


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
            f"weight {tuple(weight.shape)} fits no number of groups of {channels} input channels"
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
    # Extent of the dilated kernel, in pixels.
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    padded = [n + 2 * p for n, p in zip(input.shape[2:], padding, strict=True)]
    if padded[0] < spans[0] or padded[1] < spans[1]:
        raise ValueError(f"the kernel spans {spans} pixels, but the padded input has only {padded}")
    return (padded[0] - spans[0]) // stride[0] + 1, (padded[1] - spans[1]) // stride[1] + 1


def _check_offsets(
    input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, size: tuple[int, int]
) -> None:
    taps = weight.shape[2] * weight.shape[3]
    # The number of offset groups follows from the channels; 0 fails the check below.
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


def _deform_conv2d_autocast(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    *geometry: list[int],
) -> Tensor:
    # Weights stay in float32: CPUs compute in it, and for the small levels of a pyramid casting
    # them there and back, gradients included, costs more than the convolution.
    input = cast_to_autocast(input, input.device.type)
    # Off: otherwise the call would dispatch to this implementation again.
    with torch.autocast(input.device.type, enabled=False):
        return torch.ops.d2ext.deform_conv2d(input, offset, weight, bias, mask, *geometry)


# By hand: `torch.library.register_autocast` would cast all tensors.
for _key in ("AutocastCPU", "AutocastCUDA"):
    torch.library.impl("d2ext::deform_conv2d", _key, _deform_conv2d_autocast)


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
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # As the kernels do: what is not needed is empty, since all four are returned.
    needs_input, needs_positions, needs_weight = options[-3:]
    return (
        _channels_last(input, input.shape) if needs_input else input.new_empty(0),
        offset.new_empty(offset.shape) if needs_positions else input.new_empty(0),
        weight.new_empty(weight.shape) if needs_weight else input.new_empty(0),
        mask.new_empty(mask.shape) if needs_positions and mask is not None else input.new_empty(0),
    )


def _channels_last(like: Tensor, size: Sequence[int]) -> Tensor:
    batch, channels, height, width = size
    return like.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    input, offset, weight, _, mask, *ctx.geometry = inputs
    ctx.save_for_backward(input, offset, weight, mask)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    if grad_output.is_cuda and ctx.needs_input_grad[0]:  # the only one summed by atomics
        alert_not_deterministic("the gradient of deform_conv2d", grad_output)
    saved = ctx.saved_tensors  # once: gradient checkpointing frees them
    input, offset, weight, bias, mask = ctx.needs_input_grad[:5]
    grad_input, grad_offset, grad_weight, grad_mask = torch.ops.d2ext.deform_conv2d_backward(
        grad_output, *saved, *ctx.geometry, input, offset or mask, weight
    )
    return (
        grad_input if input else None,
        grad_offset if offset else None,
        grad_weight if weight else None,
        grad_output.sum((0, 2, 3), dtype=saved[2].dtype) if bias else None,
        grad_mask if mask else None,
        *[None] * 3,  # the geometry
    )


torch.library.register_autograd("d2ext::deform_conv2d", _backward, setup_context=_save)
register_differentiable_once("deform_conv2d")
register_decomposition("deform_conv2d", reference.deform_conv2d_by_grid_sample)
