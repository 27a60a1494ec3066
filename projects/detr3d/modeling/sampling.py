"""Feature sampling: points in space read all cameras and all levels in one fused operation.

Source: Wang et al., "DETR3D", 2021, arXiv:2110.06922, section 3.3, equations 3 to 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from d2ext.ops import ms_deform_attn

MIN_DEPTH = 1e-5  # metres; nearer points are behind the camera


@dataclass(frozen=True)
class CameraFeatures:
    """Feature maps of all cameras and levels, flattened once for all decoder layers.

    Attributes:
        values: (B, S, 1, C), the pixels of all maps: level after level, of each all cameras.
        sizes: height and width of each map, in the same order; L * N of them.
        num_cameras: N.
    """

    values: Tensor
    sizes: list[tuple[int, int]]
    num_cameras: int

    @classmethod
    def flatten(cls, levels: Sequence[Tensor], num_cameras: int) -> "CameraFeatures":
        """Flatten maps of (B * N, C, H, W) per level, cameras of one sample in succession."""
        values, sizes = [], []
        for level in levels:
            pixels = level.unflatten(0, (-1, num_cameras)).flatten(3).transpose(2, 3)
            values.append(pixels.flatten(1, 2))
            sizes += [(level.shape[2], level.shape[3])] * num_cameras
        return cls(torch.cat(values, dim=1)[:, :, None], sizes, num_cameras)

    @property
    def num_levels(self) -> int:
        """L, the number of levels."""
        return len(self.sizes) // self.num_cameras


def project_points(
    points: Tensor, lidar2img: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Project points in space onto every camera.

    Args:
        points: (B, Q, 3) in metres, in the lidar frame.
        lidar2img: (B, N, 4, 4) from metres to pixels times depth.
        image_size: height and width of the padded images, in pixels.
    Returns:
        (B, N, Q, 2) x and y, 0 and 1 at the borders of the image, and (B, N, Q) bool: the point is
        in front of the camera and strictly inside its image.
    """
    homogeneous = torch.cat((points, torch.ones_like(points[..., :1])), dim=-1)
    projected = homogeneous[:, None] @ lidar2img.to(points.dtype).transpose(-1, -2)
    depth = projected[..., 2:3]
    height, width = image_size
    size = points.new_tensor([width, height])
    locations = projected[..., :2] / depth.clamp(min=MIN_DEPTH) / size
    inside = (locations > 0).all(-1) & (locations < 1).all(-1)
    return locations, inside & (depth[..., 0] > MIN_DEPTH)


def sample_features(features: CameraFeatures, locations: Tensor, weights: Tensor) -> Tensor:
    """Sum bilinear samples over all cameras and levels, without a tensor of the single samples.

    A camera's map of one level is one level of multi-scale deformable attention with one head.

    Args:
        features: L levels of N cameras with C channels.
        locations: (B, N, Q, 2) as `project_points` returns them; the same for all levels.
        weights: (B, Q, N, L) factors of the samples, 0 where a camera does not see the point.
    Returns:
        (B, Q, C).
    """
    batch, queries = weights.shape[:2]
    # To the order of the maps: (B, Q, 1 head, L * N maps, 1 point, 2).
    places = locations.transpose(1, 2)[:, :, None].expand(-1, -1, features.num_levels, -1, -1)
    places = places.reshape(batch, queries, 1, -1, 1, 2)
    factors = weights.transpose(2, 3).reshape(batch, queries, 1, -1, 1)
    return ms_deform_attn(features.values, features.sizes, places, factors)
