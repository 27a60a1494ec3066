"""Deformable convolution of several maps that share weights, such as the levels of a pyramid.

Source: Dai et al., "Deformable Convolutional Networks", 2017, arXiv:1703.06211, section 2.1.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.utils import _pair

from d2ext.ops.autocast import cast_to_autocast
from d2ext.ops.checks import check_dtypes
from d2ext.ops.deform_conv2d import GEOMETRY, check_deform_shapes, deform_conv2d
from d2ext.ops.determinism import alert_not_deterministic
from d2ext.ops.differentiation import register_differentiable_once

Lists = tuple[list[Tensor], list[Tensor], Tensor, list[Tensor]]

torch.library.define(
    "d2ext::deform_conv2d_levels",
    "(Tensor[] inputs, Tensor[] offsets, Tensor weight, Tensor? bias, Tensor[] masks, "
    f"{GEOMETRY}) -> Tensor[]",
)
torch.library.define(
    "d2ext::deform_conv2d_levels_backward",
    "(Tensor[] grad_outputs, Tensor[] inputs, Tensor[] offsets, Tensor weight, Tensor[] masks, "
    f"{GEOMETRY}, bool needs_input, bool needs_positions, bool needs_weight) "
    "-> (Tensor[], Tensor[], Tensor, Tensor[])",
)


def deform_conv2d_levels(
    inputs: Sequence[Tensor],
    offsets: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    masks: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """Compute `deform_conv2d` of each map, with the same weights.

    On CPUs weights are converted, and their gradients summed, once and not per map, which takes
    most of the time where maps are small. Traced and compiled graphs hold one `deform_conv2d` per
    map.

    Args:
        inputs: per level (B, C, H, W), of one dtype. Cast by autocast.
        offsets: per level, as in `deform_conv2d`.
        weight, bias: as in `deform_conv2d`.
        stride, padding, dilation: as in `deform_conv2d`.
        masks: per level, as in `deform_conv2d`, or None.
    Returns:
        Per level (B, C', H', W'). Differentiable once.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other.
        RuntimeError: as `deform_conv2d`.
    """
    given = _as_optional(masks, len(inputs))
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or not inputs:
        options: Any = {"stride": stride, "padding": padding, "dilation": dilation}
        levels = zip(inputs, offsets, given, strict=True)
        return [
            deform_conv2d(level, offset, weight, bias, mask=mask, **options)
            for level, offset, mask in levels
        ]
    geometry = _pair(stride), _pair(padding), _pair(dilation)
    inputs = [cast_to_autocast(level, level.device.type) for level in inputs]
    for level, offset, mask in zip(inputs, offsets, given, strict=True):
        check_dtypes(level, or_float32=(offset, mask, weight, bias))
        check_dtypes(inputs[0], level)
        check_deform_shapes(level, offset, weight, bias, mask, geometry)
    return torch.ops.d2ext.deform_conv2d_levels(
        inputs, list(offsets), weight, bias, list(masks or ()), *geometry
    )


def _as_optional(masks: Sequence[Tensor] | None, count: int) -> Sequence[Tensor | None]:
    return masks or [None] * count


def _one_by_one(
    inputs: list[Tensor],
    offsets: list[Tensor],
    weight: Tensor,
    bias: Tensor | None,
    masks: list[Tensor],
    *geometry: list[int],
) -> list[Tensor]:
    levels = zip(inputs, offsets, _as_optional(masks, len(inputs)), strict=True)
    return [
        torch.ops.d2ext.deform_conv2d(level, offset, weight, bias, mask, *geometry)
        for level, offset, mask in levels
    ]


def _one_by_one_backward(
    grad_outputs: list[Tensor],
    inputs: list[Tensor],
    offsets: list[Tensor],
    weight: Tensor,
    masks: list[Tensor],
    *options: Any,
) -> Lists:
    operator = torch.ops.d2ext.deform_conv2d_backward
    factors = _as_optional(masks, len(inputs))
    levels = zip(grad_outputs, inputs, offsets, factors, strict=True)
    found = [operator(*maps, weight, mask, *options) for *maps, mask in levels]
    grad_inputs, grad_offsets, grad_weights, grad_masks = map(list, zip(*found, strict=True))
    grad_weight = torch.stack(grad_weights).sum(0)
    return grad_inputs, grad_offsets, grad_weight, grad_masks if masks else []


torch.library.impl("d2ext::deform_conv2d_levels", "CompositeExplicitAutograd", _one_by_one)
torch.library.impl(
    "d2ext::deform_conv2d_levels_backward", "CompositeExplicitAutograd", _one_by_one_backward
)
torch.library.register_fake("d2ext::deform_conv2d_levels", _one_by_one)
torch.library.register_fake("d2ext::deform_conv2d_levels_backward", _one_by_one_backward)


def _save(ctx: Any, inputs: tuple, output: list[Tensor]) -> None:
    levels, offsets, weight, _, masks, *ctx.geometry = inputs
    ctx.count = len(levels)
    ctx.save_for_backward(weight, *levels, *offsets, *masks)


def _backward(ctx: Any, grad_outputs: list[Tensor]) -> tuple:
    levels, offsets, weight, bias, masks = ctx.needs_input_grad[:5]
    if grad_outputs[0].is_cuda and any(levels):  # the only one summed by atomics
        alert_not_deterministic("the gradient of deform_conv2d", grad_outputs[0])
    kernels, *maps = ctx.saved_tensors
    inputs, shifts, factors = (maps[i * ctx.count : (i + 1) * ctx.count] for i in range(3))
    needs = any(levels), any(offsets) or any(masks), weight
    grads = torch.ops.d2ext.deform_conv2d_levels_backward(
        grad_outputs, inputs, shifts, kernels, factors, *ctx.geometry, *needs
    )
    grad_inputs, grad_offsets, grad_weight, grad_masks = grads
    return (
        _needed(grad_inputs, levels),
        _needed(grad_offsets, offsets),
        grad_weight if weight else None,
        sum(grad.sum((0, 2, 3), dtype=kernels.dtype) for grad in grad_outputs) if bias else None,
        _needed(grad_masks, masks),
        *[None] * 3,  # the geometry
    )


def _needed(grads: list[Tensor], needs: list[bool]) -> list[Tensor | None]:
    return [grad if needed else None for grad, needed in zip(grads, needs, strict=True)]


torch.library.register_autograd("d2ext::deform_conv2d_levels", _backward, setup_context=_save)
register_differentiable_once("deform_conv2d_levels")
