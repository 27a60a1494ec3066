"""Feature sampling: points in space read all cameras and all levels in one fused operation.

Source: Wang et al., "DETR3D", 2021, arXiv:2110.06922, section 3.3, equations 3 to 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_DEPTH = 1e-5  # metres; nearer points are behind the camera


@dataclass(frozen=True)
class CameraFeatures:
    """Feature maps of all cameras and levels, flattened once for all decoder layers.

    Attributes:
        values: (B * S, C), the pixels of all maps: of each camera all levels, row-major.
        sizes: (N * L, 2) int64, width and height of each map, in the same order.
        num_cameras: N.
    """

    values: Tensor
    sizes: Tensor
    num_cameras: int

    @classmethod
    def flatten(cls, levels: Sequence[Tensor], num_cameras: int) -> "CameraFeatures":
        """Flatten maps of (B * N, C, H, W) per level, cameras of one sample in succession."""
        pixels = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        sizes = [(level.shape[3], level.shape[2]) for level in levels] * num_cameras
        return cls(pixels.flatten(0, 1), torch.tensor(sizes, device=pixels.device), num_cameras)


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

    The pixels that a query reads, four per sample, are one bag of an embedding bag. Cameras that do
    not see a point cost nothing.

    Args:
        features: L levels of N cameras with C channels.
        locations: (B, N, Q, 2) as `project_points` returns them; the same for all levels.
        weights: (B, Q, N, L) factors of the samples, 0 where a camera does not see the point.
    Returns:
        (B, Q, C).
    """
    batch, queries = weights.shape[:2]
    sample = weights.nonzero()  # (M, 4) indices of B, Q, N, L, in this order
    camera, level = sample[:, 2], sample[:, 3]
    place = locations[sample[:, 0], camera, sample[:, 1]]
    maps = camera * weights.shape[3] + level
    pixels, shares = _corners(features, sample[:, 0], maps, place)
    shares = shares * weights[tuple(sample.T)][:, None]
    counts = torch.bincount(sample[:, 0] * queries + sample[:, 1], minlength=batch * queries)
    summed = F.embedding_bag(
        pixels.flatten(),
        features.values,
        4 * (counts.cumsum(0) - counts),
        mode="sum",
        per_sample_weights=shares.flatten().to(features.values.dtype),
    )
    return summed.unflatten(0, (batch, queries))


def _corners(
    features: CameraFeatures, batch: Tensor, maps: Tensor, place: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the rows of `features.values` around M places and their shares: (M, 4) each.

    Pixels outside a map have no share.
    """
    areas = features.sizes.prod(dim=1)
    starts = areas.cumsum(0) - areas
    size = features.sizes[maps][:, None]  # (M, 1, 2)
    steps = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=place.device)
    pixel = place[:, None] * size - 0.5  # pixel i of n has its centre at (i + 0.5) / n
    corner = pixel.detach().floor() + steps  # (M, 4, 2)
    inside = ((corner >= 0) & (corner < size)).all(-1)
    shares = (1 - (pixel - corner).abs()).prod(-1) * inside
    x, y = torch.where(inside[..., None], corner, 0).long().unbind(-1)
    first = batch * areas.sum() + starts[maps]
    return first[:, None] + y * size[..., 0] + x, shares
