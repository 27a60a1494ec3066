"""Multi-scale deformable attention.

Source: Zhu et al., "Deformable DETR: Deformable Transformers for End-to-End Object Detection",
2020, arXiv:2010.04159, equation 3.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from d2ext.ops import reference
from d2ext.ops.autocast import cast_to_autocast
from d2ext.ops.checks import check_dtypes
from d2ext.ops.decomposition import register_decomposition
from d2ext.ops.determinism import alert_not_deterministic
from d2ext.ops.differentiation import register_differentiable_once

_INPUTS = (
    "Tensor value, SymInt[] spatial_shapes, Tensor sampling_locations, Tensor attention_weights"
)

torch.library.define("d2ext::ms_deform_attn", f"({_INPUTS}) -> Tensor")
torch.library.define(
    "d2ext::ms_deform_attn_backward",
    f"(Tensor grad_output, {_INPUTS}) -> (Tensor, Tensor, Tensor)",
)
torch.library.impl("d2ext::ms_deform_attn", "CompositeExplicitAutograd", reference.ms_deform_attn)
torch.library.impl(
    "d2ext::ms_deform_attn_backward",
    "CompositeExplicitAutograd",
    reference.ms_deform_attn_backward,
)


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Compute multi-scale deformable attention: a weighted sum of samples per query and head.

    Samples are interpolated bilinearly, with zeros outside the maps.

    Args:
        value: (N, S, M, D) floats, half types included: the S pixels of all L levels, level after
            level and row-major, each with D channels for each of M heads. Cast by autocast.
        spatial_shapes: height and width of each level, in pixels. Python numbers, since reading a
            tensor of them would synchronise with the GPU.
        sampling_locations: (N, Q, M, L, P, 2) x and y of P samples per level, normalised: 0 and 1
            are the borders of the level's map, so pixel i of n has its centre at (i + 0.5) / n.
        attention_weights: (N, Q, M, L, P) factors of the samples; they need not sum to one.
            Locations and weights have the dtype of `value`, or float32 where it is a half type.
    Returns:
        (N, Q, M * D), dtype of `value`. Differentiable once.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other.
        RuntimeError: in the backward pass, if the gradient of `value` is asked for on CUDA under
            `torch.use_deterministic_algorithms(True)`.
    """
    value = cast_to_autocast(value, value.device.type)
    check_dtypes(value, or_float32=(sampling_locations, attention_weights))
    _check_shapes(value, spatial_shapes, sampling_locations, attention_weights)
    # Flat: schemas have no lists of pairs.
    return torch.ops.d2ext.ms_deform_attn(
        value, list(chain(*spatial_shapes)), sampling_locations, attention_weights
    )


def _check_shapes(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> None:
    if value.ndim != 4:
        raise ValueError(f"value must be (N, S, M, D), got {tuple(value.shape)}")
    batch, pixels, heads, _ = value.shape
    if not spatial_shapes or any(len(size) != 2 or min(size) < 1 for size in spatial_shapes):
        raise ValueError(
            f"spatial_shapes must be heights and widths of at least 1, got {spatial_shapes}"
        )
    if pixels != sum(height * width for height, width in spatial_shapes):
        raise ValueError(
            f"the levels {list(spatial_shapes)} do not have {pixels} pixels in total, as value has"
        )
    levels = len(spatial_shapes)
    fits = locations.ndim == 6 and locations.shape[2:4] == (heads, levels)
    fits = fits and locations.shape[0] == batch and locations.shape[5] == 2
    if not fits or locations.shape[4] < 1:
        raise ValueError(
            f"sampling_locations must be ({batch}, Q, {heads}, {levels}, P, 2) with at least one "
            f"point, got {tuple(locations.shape)}"
        )
    if weights.shape != locations.shape[:-1]:
        raise ValueError(
            f"attention_weights must be {tuple(locations.shape[:-1])}, got {tuple(weights.shape)}"
        )


@torch.library.register_fake("d2ext::ms_deform_attn")
def _fake(value: Tensor, spatial_shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])


@torch.library.register_fake("d2ext::ms_deform_attn_backward")
def _fake_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: list[int],
    locations: Tensor,
    weights: Tensor,
) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in (value, locations, weights))


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    value, ctx.spatial_shapes, locations, weights = inputs
    ctx.save_for_backward(value, locations, weights)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    value, locations, weights = ctx.saved_tensors
    if value.is_cuda and ctx.needs_input_grad[0]:  # the only one summed by atomics
        alert_not_deterministic("the gradient of ms_deform_attn", value)
    grad_value, grad_locations, grad_weights = torch.ops.d2ext.ms_deform_attn_backward(
        grad_output, value, ctx.spatial_shapes, locations, weights
    )
    return grad_value, None, grad_locations, grad_weights


torch.library.register_autograd("d2ext::ms_deform_attn", _backward, setup_context=_save)
register_differentiable_once("ms_deform_attn")
register_decomposition("ms_deform_attn", reference.ms_deform_attn_by_grid_sample)
