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
    """Weighted sums of samples that each query takes from maps of several sizes, head by head.

    Samples are interpolated bilinearly; outside the maps lie zeros.

    Args:
        value: (N, S, M, D) floats, half types included: S pixels of all levels, level after level
            and row-major, each with D channels for each of M heads. Cast under autocast.
        spatial_shapes: height and width of each of the L levels, in pixels; numbers and not a
            tensor, which would make a GPU wait.
        sampling_locations: (N, Q, M, L, P, 2) x and y of P samples a level; 0 and 1 are the borders
            of the level's map, so that pixel i of n has its centre at (i + 0.5) / n.
        attention_weights: (N, Q, M, L, P) factors of the samples; they need not sum to one.
            Both are of the dtype of `value`, or float32 beside half types.
    Returns:
        (N, Q, M * D), dtype of `value`. Differentiable once.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other.
    """
    value = _autocast(value)
    _check_floats(value, sampling_locations, attention_weights)
    _check_shapes(value, spatial_shapes, sampling_locations, attention_weights)
    return torch.ops.d2ext.ms_deform_attn(
        value, list(chain(*spatial_shapes)), sampling_locations, attention_weights
    )


def _autocast(tensor: Tensor) -> Tensor:
    kind = tensor.device.type
    if not torch.is_autocast_enabled(kind) or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(torch.get_autocast_dtype(kind)) if tensor.is_floating_point() else tensor


def _check_floats(value: Tensor, *others: Tensor) -> None:
    allowed = {value.dtype}
    if value.dtype in (torch.float16, torch.bfloat16):
        allowed.add(torch.float32)
    for tensor in (value, *others):
        if not tensor.is_floating_point() or tensor.device != value.device:
            raise ValueError(
                f"expected floats on {value.device}, got {tensor.dtype} on {tensor.device}"
            )
        if tensor.dtype not in allowed:
            raise ValueError(f"expected one dtype, got {value.dtype} and {tensor.dtype}")


def _check_shapes(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> None:
    if value.ndim != 4:
        raise ValueError(f"value must be (N, S, M, D), got {tuple(value.shape)}")
    batch, pixels, heads, _ = value.shape
    if not spatial_shapes or any(len(size) != 2 or min(size) < 1 for size in spatial_shapes):
        raise ValueError(f"spatial_shapes must be heights and widths, got {spatial_shapes}")
    if pixels != sum(height * width for height, width in spatial_shapes):
        raise ValueError(f"levels of {list(spatial_shapes)} do not have {pixels} pixels together")
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
    if value.is_cuda:
        alert_not_deterministic("the backward pass of ms_deform_attn", value)
    grad_value, grad_locations, grad_weights = torch.ops.d2ext.ms_deform_attn_backward(
        grad_output, value, ctx.spatial_shapes, locations, weights
    )
    return grad_value, None, grad_locations, grad_weights


torch.library.register_autograd("d2ext::ms_deform_attn", _backward, setup_context=_save)
register_differentiable_once("ms_deform_attn")
register_decomposition("ms_deform_attn", reference.ms_deform_attn_by_grid_sample)
