"""RoI align: regions of interest, upright or rotated, pooled to one size.

Source: He et al., "Mask R-CNN", 2017, arXiv:1703.06870, section 3, with the conventions of
torchvision's `roi_align` and of Detectron2's `ROIAlignRotated`.
"""

from typing import Any

import torch
from torch import Tensor

from d2ext.ops import reference
from d2ext.ops.checks import check_float_tensor
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
for _name, _reference in (
    ("roi_align", reference.roi_align),
    ("roi_align_backward", reference.roi_align_backward),
    ("roi_align_rotated", reference.roi_align),  # which tells regions apart by their columns
    ("roi_align_rotated_backward", reference.roi_align_rotated_backward),
):
    torch.library.impl(f"d2ext::{_name}", "CompositeExplicitAutograd", _reference)


def roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Pool upright regions of interest: average bilinear samples in each bin.

    Args:
        input: (B, C, H, W) floats, half types included, in any memory format.
        rois: (K, 5) floats: index of the image in the batch, then XYXY in pixels of the image. They
            may be float32 where `input` is of a half type.
        output_size: number of bins, one number or (vertical, horizontal).
        spatial_scale: size of `input` relative to the image, such as 1/16.
        sampling_ratio: samples per bin along each side, at most 1024; 0 or less: about one per
            pixel of `input`. Then a region's side has at most 1024 samples in all its bins (or one
            per bin, if there are more), however long it is: more pixels are read at wider steps.
            A side that is NaN or negative has none, and its bins are 0.
        aligned: True reads regions exactly where they are. False shifts them by half a pixel of
            `input` to the right and down and widens them to at least one pixel, as models from
            before 2019 expect.
    Returns:
        (K, C, *output_size), dtype of `input`. Linear in `input`, and differentiable any number of
        times with respect to it; not differentiable with respect to `rois`.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other.
        RuntimeError: a region's image index is outside the batch (on CUDA a device-side assertion);
            or, in the backward pass on CUDA, `torch.use_deterministic_algorithms(True)` is set.
    """
    _check(input, rois, 5)
    size, ratio = _size(output_size), _ratio(sampling_ratio)
    return torch.ops.d2ext.roi_align(input, rois, spatial_scale, *size, ratio, aligned)


def roi_align_rotated(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
) -> Tensor:
    """Pool rotated regions of interest: average bilinear samples in each bin; always aligned.

    Args:
        rois: (K, 6) floats: index of the image in the batch, then XYWHA (centre, width and height
            in pixels of the image, angle in degrees, counter-clockwise as seen on screen).
        input, output_size, spatial_scale, sampling_ratio: as in `roi_align`.
    Returns:
        (K, C, *output_size), as of `roi_align`.
    Raises:
        ValueError, RuntimeError: as in `roi_align`.
    """
    _check(input, rois, 6)
    size, ratio = _size(output_size), _ratio(sampling_ratio)
    return torch.ops.d2ext.roi_align_rotated(input, rois, spatial_scale, *size, ratio)


def _check(input: Tensor, rois: Tensor, columns: int) -> None:
    if input.ndim != 4 or rois.ndim != 2 or rois.shape[1] != columns:
        raise ValueError(
            f"input must be (B, C, H, W) and rois (K, {columns}), "
            f"got {tuple(input.shape)} and {tuple(rois.shape)}"
        )
    for tensor in (input, rois):
        check_float_tensor(tensor, input.device)
    height, width = input.shape[2:]  # the kernels number pixels in 32 bits
    if height * width < 1 or height * width >= 2**31:
        raise ValueError(f"a map must have from 1 to 2^31 - 1 pixels, got {height} x {width}")


def _size(output_size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (output_size,) * 2 if isinstance(output_size, int) else output_size
    if min(height, width) < 1:
        raise ValueError(f"output_size must be at least 1, got {output_size}")
    return height, width


def _ratio(sampling_ratio: int) -> int:
    if sampling_ratio > reference.MOST_SAMPLES:
        raise ValueError(
            f"sampling_ratio must be at most {reference.MOST_SAMPLES}, got {sampling_ratio}"
        )
    return max(sampling_ratio, 0)


def _fake(
    input: Tensor, rois: Tensor, spatial_scale: float, height: int, width: int, *_: object
) -> Tensor:
    return input.new_empty((rois.shape[0], input.shape[1], height, width))


def _fake_backward(grad_output: Tensor, *options: Any) -> Tensor:
    batch, height, width = options[-3:]
    return grad_output.new_empty((batch, grad_output.shape[1], height, width))


# `torch.library` calls these with all arguments of the schema, by position.
def _register(name: str) -> None:
    """Register fake kernels and gradients of an operator and of its backward pass.

    Both are linear in their first argument, and each is the gradient of the other. So the operator
    is differentiable any number of times.
    """
    forward = getattr(torch.ops.d2ext, name)
    backward = getattr(torch.ops.d2ext, f"{name}_backward")

    def save(ctx: Any, inputs: tuple, output: Tensor) -> None:
        input, rois, scale, _, _, *ctx.options = inputs
        ctx.save_for_backward(rois)
        ctx.scale, ctx.maps = scale, (input.shape[0], *input.shape[2:])

    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if grad.is_cuda:  # summed by atomics
            alert_not_deterministic(f"the gradient of {name}", grad)
        (rois,) = ctx.saved_tensors
        grad_input = backward(grad, rois, ctx.scale, *ctx.options, *ctx.maps)
        # None for rois, scale, both pooled sizes and the options.
        return grad_input, *[None] * (4 + len(ctx.options))

    def save_backward(ctx: Any, inputs: tuple, output: Tensor) -> None:
        grad_output, rois, scale, *ctx.options = inputs
        ctx.save_for_backward(rois)
        ctx.scale, ctx.size = scale, grad_output.shape[2:]

    def differentiate_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rois,) = ctx.saved_tensors
        options = ctx.options[:-3]  # without batch, height and width
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
register_decomposition("roi_align_rotated", reference.roi_align_by_gathers)
