"""RoIAlign of rotated boxes, on the operators `torch.ops.detectron2.roi_align_rotated_*`."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from .. import _C  # noqa: F401

__all__ = ["ROIAlignRotated", "roi_align_rotated"]


class _ROIAlignRotated(torch.autograd.Function):
    """RoIAlign of rotated boxes; gradients reach the features, not the boxes."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        rois: Tensor,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
    ) -> Tensor:
        ctx.save_for_backward(rois)
        ctx.shape = features.shape
        ctx.options = (spatial_scale, *_pair(output_size))
        ctx.sampling_ratio = sampling_ratio
        return torch.ops.detectron2.roi_align_rotated_forward(
            features, rois, *ctx.options, sampling_ratio
        )

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (rois,) = ctx.saved_tensors
        grad_features = torch.ops.detectron2.roi_align_rotated_backward(
            grad, rois, *ctx.options, *ctx.shape, ctx.sampling_ratio
        )
        return grad_features, None, None, None, None


def roi_align_rotated(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
) -> Tensor:
    """Compute RoIAlign of rotated boxes; see `ROIAlignRotated`."""
    return _ROIAlignRotated.apply(input, rois, output_size, spatial_scale, sampling_ratio)


class ROIAlignRotated(nn.Module):
    """RoIAlign of rotated boxes, resampled to one size; pixel centres lie at .5.

    Args:
        output_size: (height, width), or one number for both.
        spatial_scale: factor from the boxes' coordinates to the feature map's.
        sampling_ratio: samples per output cell and axis; 0: adapts to the region's size.
    """

    def __init__(
        self, output_size: int | tuple[int, int], spatial_scale: float, sampling_ratio: int
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool features (B, C, H, W) to (N, C, height, width).

        `rois` is (N, 6): the batch index and a box: centre x and y, width, height, degrees
        counter-clockwise.
        """
        if rois.dim() != 2 or rois.size(1) != 6:
            raise ValueError(f"rois must be (N, 6), got {rois.shape}")
        dtype = input.dtype
        if dtype in (torch.float16, torch.bfloat16):
            input = input.float()  # half precision is too coarse for box coordinates
        pooled = roi_align_rotated(
            input, rois.to(input.dtype), self.output_size, self.spatial_scale, self.sampling_ratio
        )
        return pooled.to(dtype)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}"
        )
