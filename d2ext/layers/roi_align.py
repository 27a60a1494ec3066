"""RoI align as modules, with Detectron2's signatures."""

from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from d2ext.ops import roi_align, roi_align_rotated


class ROIAlign(nn.Module):
    """RoI align of upright regions, see `d2ext.ops.roi_align`.

    Args:
        output_size: number of bins, one number or (vertical, horizontal).
        spatial_scale: size of the maps relative to the image, such as 1/16.
        sampling_ratio: samples per bin along each side; 0: about one per pixel of the maps.
        aligned: False is off by half a pixel, as models from before 2019 expect.
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        self.output_size, self.spatial_scale = _pair(output_size), spatial_scale
        self.sampling_ratio, self.aligned = sampling_ratio, aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool (B, C, H, W) maps in (K, 5) regions, image index and XYXY: (K, C, *output_size)."""
        return roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )

    def extra_repr(self) -> str:
        """Return the arguments, as Detectron2 prints them."""
        names = "output_size spatial_scale sampling_ratio aligned"
        return ", ".join(f"{name}={getattr(self, name)}" for name in names.split())


class ROIAlignRotated(nn.Module):
    """RoI align of rotated regions, see `d2ext.ops.roi_align_rotated`.

    Args:
        output_size: number of bins, one number or (vertical, horizontal).
        spatial_scale: size of the maps relative to the image, such as 1/16.
        sampling_ratio: samples per bin along each side; 0: about one per pixel of the maps.
    """

    def __init__(
        self, output_size: int | tuple[int, int], spatial_scale: float, sampling_ratio: int
    ) -> None:
        super().__init__()
        self.output_size, self.spatial_scale = _pair(output_size), spatial_scale
        self.sampling_ratio = sampling_ratio

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool (B, C, H, W) maps in (K, 6) regions, image index and XYWHA: (K, C, *output_size)."""
        return roi_align_rotated(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio
        )

    def extra_repr(self) -> str:
        """Return the arguments, as Detectron2 prints them."""
        names = "output_size spatial_scale sampling_ratio"
        return ", ".join(f"{name}={getattr(self, name)}" for name in names.split())
