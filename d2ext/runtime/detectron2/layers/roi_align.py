"""RoIAlign (He et al. 2017, arXiv:1703.06870)."""

from torch import Tensor, nn
from torchvision.ops import roi_align

__all__ = ["ROIAlign", "roi_align"]


class ROIAlign(nn.Module):
    """RoIAlign: features of each region, resampled to one size.

    Args:
        output_size: (height, width), or one number for both.
        spatial_scale: factor from the boxes' coordinates to the feature map's.
        sampling_ratio: samples per output cell and axis; 0: adapts to the region's size.
        aligned: shift by half a pixel, so that pixel centres lie at .5; otherwise the older
            convention, where they lie on integers.
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
        """Pool features (B, C, H, W) to (N, C, height, width).

        `rois` is (N, 5): the batch index and an XYXY box.
        """
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
