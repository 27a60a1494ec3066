"""Regions of interest, upright or rotated, resampled to one size.

Source: He et al., "Mask R-CNN", 2017, arXiv:1703.06870, section 3, with the conventions of
torchvision's `roi_align` and of Detectron2's `ROIAlignRotated`.
"""

from typing import Any

import torch
from torch import Tensor

from d2ext.ops import reference
from d2ext.ops.decomposition import register_decomposition
from d2ext.ops.determinism import alert_not_deterministic

_POOLING = "float spatial_scale, SymInt pooled_height, SymInt pooled_width, int sampling_ratio"
_MAPS = "SymInt batch, SymInt height, SymInt width"

torch.library.define(
    "d2ext::roi_align", f"(Tensor input, Tensor rois, {_POOLING}, bool aligned) -> Tensor"
)
torch.library.define(
    "d2ext::roi_align_backward",
    "(Tensor grad_output, Tensor rois, float spatial_scale, int sampling_ratio, bool aligned, "
    f"{_MAPS}) -> Tensor",
)
torch.library.define(
    "d2ext::roi_align_rotated", f"(Tensor input, Tensor rois, {_POOLING}) -> Tensor"
)
torch.library.define(
    "d2ext::roi_align_rotated_backward",
    "(Tensor grad_output, Tensor rois, float spatial_scale, int sampling_ratio, "
    f"{_MAPS}) -> Tensor",
)
for _name in ("roi_align", "roi_align_rotated"):
    for _pass in (_name, f"{_name}_backward"):
        torch.library.impl(
            f"d2ext::{_pass}", "CompositeExplicitAutograd", getattr(reference, _pass)
        )


def roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Means of bilinear samples in the bins of upright regions.

    Args:
        input: (B, C, H, W) floats, half types included, in any memory format.
        rois: (K, 5) floats: number of the image, XYXY in pixels of the image. float32 regions are
            read as such beside half types.
        output_size: bins, one number or (vertical, horizontal).
        spatial_scale: pixels of `input` in a pixel of the image.
        sampling_ratio: samples along a side of a bin; 0 or less: about one a pixel of `input`.
        aligned: whether regions are where they say. Otherwise they are half a pixel of `input`
            further right and down, and at least one of its pixels large, as before 2019.
    Returns:
        (K, C, *output_size), dtype of `input`. Linear in `input`, by which it is differentiable
        any number of times, and not by `rois`.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other.
        RuntimeError: a region is in an image that is not there; on CUDA an assertion of the kernel.
            Or deterministic algorithms are asked for, and the gradient on CUDA.
    """
    _check(input, rois, 5)
    size, ratio = _size(output_size), max(sampling_ratio, 0)
    return torch.ops.d2ext.roi_align(input, rois, spatial_scale, *size, ratio, aligned)


def roi_align_rotated(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
) -> Tensor:
    """Means of bilinear samples in the bins of rotated regions; they are always aligned.

    Args:
        rois: (K, 6) floats: number of the image, XYWHA (centre and sides in pixels of the image,
            degrees counter-clockwise).

    The rest as in `roi_align`.
    """
    _check(input, rois, 6)
    size, ratio = _size(output_size), max(sampling_ratio, 0)
    return torch.ops.d2ext.roi_align_rotated(input, rois, spatial_scale, *size, ratio)


def _check(input: Tensor, rois: Tensor, columns: int) -> None:
    if input.ndim != 4 or rois.ndim != 2 or rois.shape[1] != columns:
        raise ValueError(
            f"input must be (B, C, H, W) and rois (K, {columns}), "
            f"got {tuple(input.shape)} and {tuple(rois.shape)}"
        )
    for tensor in (input, rois):
        if not tensor.is_floating_point() or tensor.device != input.device:
            raise ValueError(
                f"expected floats on {input.device}, got {tensor.dtype} on {tensor.device}"
            )
    height, width = input.shape[2:]
    if height * width < 1 or height * width >= 2**31:
        raise ValueError(f"a map must have from 1 to 2^31 - 1 pixels, not {height} x {width}")


def _size(output_size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (output_size,) * 2 if isinstance(output_size, int) else output_size
    if min(height, width) < 1:
        raise ValueError(f"output_size must be at least 1, got {output_size}")
    return height, width


def _fake(
    input: Tensor, rois: Tensor, spatial_scale: float, height: int, width: int, *_: object
) -> Tensor:
    return input.new_empty((rois.shape[0], input.shape[1], height, width))


def _fake_backward(grad_output: Tensor, *options: Any) -> Tensor:
    batch, height, width = options[-3:]
    return grad_output.new_empty((batch, grad_output.shape[1], height, width))


def _register(name: str) -> None:
    """Both passes are linear in their first argument, and each is the other's gradient."""
    forward = getattr(torch.ops.d2ext, name)
    backward = getattr(torch.ops.d2ext, f"{name}_backward")

    def save(ctx: Any, inputs: tuple, output: Tensor) -> None:
        input, rois, scale, _, _, *ctx.options = inputs
        ctx.save_for_backward(rois)
        ctx.scale, ctx.maps = scale, (input.shape[0], *input.shape[2:])

    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if grad.is_cuda:
            alert_not_deterministic(f"the gradient of {name}", grad)
        (rois,) = ctx.saved_tensors
        grad_input = backward(grad, rois, ctx.scale, *ctx.options, *ctx.maps)
        return grad_input, *[None] * (4 + len(ctx.options))

    def save_backward(ctx: Any, inputs: tuple, output: Tensor) -> None:
        grad_output, rois, scale, *ctx.options = inputs
        ctx.save_for_backward(rois)
        ctx.scale, ctx.size = scale, grad_output.shape[2:]

    def differentiate_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rois,) = ctx.saved_tensors
        options = ctx.options[:-3]
        grad_output = forward(grad, rois, ctx.scale, *ctx.size, *options)
        return grad_output, *[None] * (2 + len(ctx.options))

    torch.library.register_fake(f"d2ext::{name}", _fake)
    torch.library.register_fake(f"d2ext::{name}_backward", _fake_backward)
    torch.library.register_autograd(f"d2ext::{name}", differentiate, setup_context=save)
    torch.library.register_autograd(
        f"d2ext::{name}_backward", differentiate_backward, setup_context=save_backward
    )


_register("roi_align")
_register("roi_align_rotated")
register_decomposition("roi_align", reference.roi_align_by_gathers)
register_decomposition("roi_align_rotated", reference.roi_align_rotated_by_gathers)
