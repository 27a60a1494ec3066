"""RoIAlign (He et al. 2017, arXiv:1703.06870)."""

from torch import Tensor, nn
from torchvision.ops import roi_align

__all__ = ["ROIAlign", "roi_align"]


class ROIAlign(nn.Module):
    """Features of each region, resampled to one size.

    Args:
        output_size: (height, width) or one side for both.
        spatial_scale: factor from the boxes' coordinates to the feature map's.
        sampling_ratio: samples for each output cell and axis; 0: as many as the region needs.
        aligned: shift by half a pixel, so that pixel centres lie at .5; without, the older
            convention where they lie on integers.
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Features (B, C, H, W) and regions (N, 5), each the batch index and a box in XYXY,
        -> (N, C, height, width)."""
        if rois.dim() != 2 or rois.size(1) != 5:
            raise ValueError(f"rois must be (N, 5), got {rois.shape}")
        return roi_align(
            input,
            rois.to(input.dtype),
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
        )

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )
