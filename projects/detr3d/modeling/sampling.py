"""Feature sampling: each camera is read where points in space project to, all cameras at once.

Source: Wang et al., "DETR3D", 2021, arXiv:2110.06922, section 3.3, equations 3 to 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.modeling.set_prediction import at_least_float32

MIN_DEPTH = 1e-5  # metres; nearer points are behind the camera
OUTSIDE = -3.0  # a coordinate of `grid_sample` at which a map of any size reads zeros


def project_points(
    points: Tensor, lidar2img: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Project points in space onto every camera.

    Half types are converted: a projection in them would be off by several pixels.

    Args:
        points: (B, Q, 3) in metres, in the lidar frame.
        lidar2img: (B, N, 4, 4) from metres to pixels times depth.
        image_size: height and width of the padded images, in pixels.
    Returns:
        (B, N, Q, 2) x and y, 0 and 1 at the borders of the image, and (B, N, Q) bool: the point is
        in front of the camera and strictly inside its image.
    """
    points = at_least_float32(points)
    homogeneous = torch.cat((points, torch.ones_like(points[..., :1])), dim=-1)
    with torch.autocast(points.device.type, enabled=False):
        projected = homogeneous[:, None] @ lidar2img.to(points.dtype).transpose(-1, -2)
    depth = projected[..., 2:3]
    height, width = image_size
    size = points.new_tensor([width, height])
    locations = projected[..., :2] / depth.clamp(min=MIN_DEPTH) / size
    inside = (locations > 0).all(-1) & (locations < 1).all(-1)
    return locations, inside & (depth[..., 0] > MIN_DEPTH)


def sample_features(
    levels: Sequence[Tensor], locations: Tensor, seen: Tensor, weights: Tensor
) -> Tensor:
    """Sum bilinear samples over all cameras and levels.

    Only cameras that see a point are read, one or two of six as a rule. Maps may have any memory
    order and are not copied; channels-last ones are read fastest.

    Args:
        levels: (B * N, C, H, W) maps of each level, the cameras of a sample in succession.
        locations, seen: (B, N, Q, 2) and (B, N, Q), as `project_points` returns them.
        weights: (B, Q, N, L) factors of the samples; those of cameras that do not see are ignored.
    Returns:
        (B, Q, C), dtype of the maps.
    """
    view = SeenPoints.of(seen)
    grid = view.pack(2 * locations - 1)
    factors = weights[view.batch, view.query, view.camera]  # (M, L)
    summed = torch.zeros((), device=weights.device)
    for level, factor in zip(levels, factors.unbind(1), strict=True):
        samples = F.grid_sample(level.to(grid.dtype), grid, align_corners=False)
        summed = summed + view.unpack(samples) * factor[:, None]
    return view.sum_cameras(summed).to(levels[0].dtype)


@dataclass(frozen=True)
class SeenPoints:
    """The M pairs of a point and a camera that sees it, and their places in a grid per camera.

    Attributes:
        batch, camera, query: (M,) indices of the pairs, ordered by camera.
        place: (M,) number of each pair among those of its camera.
        shape: B, N, Q.
    """

    batch: Tensor
    camera: Tensor
    query: Tensor
    place: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, seen: Tensor) -> "SeenPoints":
        """Find the pairs of (B, N, Q) bools."""
        place = (seen.cumsum(2) - 1)[seen]
        return cls(*seen.nonzero(as_tuple=True), place, tuple(seen.shape))

    @property
    def image(self) -> Tensor:
        """(M,) number of each pair's camera among those of all samples."""
        return self.batch * self.shape[1] + self.camera

    def pack(self, locations: Tensor) -> Tensor:
        """Convert (B, N, Q, 2) to grids (B * N, K, 1, 2), K the most points that a camera sees."""
        batch, cameras, _ = self.shape
        most = int(self.place.max()) + 1 if len(self.place) else 1
        grid = locations.new_full((batch * cameras, most, 1, 2), OUTSIDE)
        found = locations[self.batch, self.camera, self.query]
        return grid.index_put((self.image, self.place), found[:, None])

    def unpack(self, samples: Tensor) -> Tensor:
        """Convert (B * N, C, K, 1) samples of the grids to (M, C)."""
        return samples[self.image, :, self.place, 0]

    def sum_cameras(self, samples: Tensor) -> Tensor:
        """Sum (M, C) samples over the cameras of each point: (B, Q, C)."""
        batch, _, queries = self.shape
        sums = samples.new_zeros(batch * queries, samples.shape[1])
        sums = sums.index_add(0, self.batch * queries + self.query, samples)
        return sums.unflatten(0, (batch, queries))
