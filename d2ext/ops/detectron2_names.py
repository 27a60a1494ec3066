"""Aliases of the rotated operators under Detectron2's names, `torch.ops.detectron2.*`.

The bundled runtime imports this module (see `d2ext/_detectron2.py`). It must not be imported when
the official package is installed, which registers operators of these names itself.
"""

import torch
from torch import Tensor

from d2ext.ops.box_iou_rotated import box_iou_rotated
from d2ext.ops.nms_rotated import nms_rotated


def _roi_align_rotated_forward(
    input: Tensor, rois: Tensor, spatial_scale: float, height: int, width: int, sampling_ratio: int
) -> Tensor:
    return torch.ops.d2ext.roi_align_rotated(
        input, rois, spatial_scale, height, width, sampling_ratio
    )


def _roi_align_rotated_backward(
    grad: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    batch: int,
    channels: int,
    height: int,
    width: int,
    sampling_ratio: int,
) -> Tensor:
    # The pooled size and the channels are those of `grad`; only Detectron2's schema repeats them.
    return torch.ops.d2ext.roi_align_rotated_backward(
        grad, rois, spatial_scale, sampling_ratio, batch, height, width
    )


_POOLING = "float spatial_scale, SymInt pooled_height, SymInt pooled_width"

for _name, _schema, _function in (
    ("box_iou_rotated", "(Tensor boxes1, Tensor boxes2) -> Tensor", box_iou_rotated),
    (
        "nms_rotated",
        "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor",
        nms_rotated,
    ),
    (
        "roi_align_rotated_forward",
        f"(Tensor input, Tensor rois, {_POOLING}, int sampling_ratio) -> Tensor",
        _roi_align_rotated_forward,
    ),
    (
        "roi_align_rotated_backward",
        f"(Tensor grad, Tensor rois, {_POOLING}, SymInt batch_size, SymInt channels, "
        "SymInt height, SymInt width, int sampling_ratio) -> Tensor",
        _roi_align_rotated_backward,
    ),
):
    torch.library.define(f"detectron2::{_name}", _schema)
    # Implicit: autograd, autocast and fake kernels are then those of the d2ext operator inside.
    torch.library.impl(f"detectron2::{_name}", "CompositeImplicitAutograd", _function)
