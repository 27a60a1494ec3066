"""Sampling of maps at points, and selection of the points (PointRend, section 3)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.layers import shapes_to_tensor
from detectron2.structures import BitMasks, Boxes, Instances

__all__ = [
    "generate_regular_grid_point_coords",
    "get_point_coords_wrt_image",
    "get_uncertain_point_coords_on_grid",
    "get_uncertain_point_coords_with_randomness",
    "point_sample",
    "point_sample_fine_grained_features",
    "sample_point_labels",
]


def point_sample(input: Tensor, point_coords: Tensor, **kwargs: Any) -> Tensor:
    """Sample maps at points by bilinear interpolation.

    Args:
        input: (N, C, H, W) maps.
        point_coords: (N, P, 2) or (N, H', W', 2) XY; 0 to 1 spans the map from edge to edge.
        kwargs: options of `torch.nn.functional.grid_sample`.

    Returns:
        (N, C, P) or (N, C, H', W').
    """
    flat = point_coords.dim() == 3
    grid = 2.0 * (point_coords.unsqueeze(2) if flat else point_coords) - 1.0
    values = F.grid_sample(input, grid, **kwargs)
    return values.squeeze(3) if flat else values


def generate_regular_grid_point_coords(
    R: int, side_size: int, device: torch.device | str
) -> Tensor:
    """Generate the cell centres of a grid, `R` times: (R, side_size * side_size, 2), in [0, 1]."""
    centres = (torch.arange(side_size, device=device, dtype=torch.float32) + 0.5) / side_size
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack((x, y), dim=-1).view(1, -1, 2).expand(R, -1, -1)


def get_uncertain_point_coords_with_randomness(
    coarse_logits: Tensor,
    uncertainty_func: Callable[[Tensor], Tensor],
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
) -> Tensor:
    """Sample points for training: the most uncertain ones of a random set, and random ones.

    Args:
        coarse_logits: (N, C, H, W) predictions.
        uncertainty_func: (N, C, P) predictions at points -> (N, 1, P).
        num_points: points per map.
        oversample_ratio: size of the random set, in multiples of `num_points`; at least 1.
        importance_sample_ratio: fraction of points selected by uncertainty, 0 to 1.

    Returns:
        (N, num_points, 2) XY, 0 to 1.

    Raises:
        ValueError: a ratio is out of its range.
    """
    if oversample_ratio < 1 or not 0 <= importance_sample_ratio <= 1:
        raise ValueError(
            "oversample_ratio is at least 1 and importance_sample_ratio 0 to 1, got "
            f"{oversample_ratio} and {importance_sample_ratio}"
        )
    count, device = coarse_logits.shape[0], coarse_logits.device
    points = torch.rand(
        count, int(num_points * oversample_ratio), 2, device=device, dtype=coarse_logits.dtype
    )
    # Uncertainty of interpolated predictions: interpolated uncertainty is another thing.
    sampled = point_sample(coarse_logits, points, align_corners=False)
    uncertainty = uncertainty_func(sampled)[:, 0]
    num_uncertain = int(importance_sample_ratio * num_points)
    best = torch.topk(uncertainty, num_uncertain, dim=1).indices
    chosen = torch.take_along_dim(points, best[..., None], dim=1)
    num_random = num_points - num_uncertain
    if num_random == 0:
        return chosen
    return torch.cat([chosen, torch.rand(count, num_random, 2, device=device)], dim=1)


def get_uncertain_point_coords_on_grid(
    uncertainty_map: Tensor, num_points: int
) -> tuple[Tensor, Tensor]:
    """Select the most uncertain cells, for inference.

    Args:
        uncertainty_map: (N, 1, H, W).
        num_points: number of cells; at most H * W are returned.

    Returns:
        (N, P) indices into the H * W cells, and (N, P, 2) XY of their centres, 0 to 1.
    """
    height, width = uncertainty_map.shape[-2:]
    kept = min(num_points, height * width)
    indices = torch.topk(uncertainty_map.flatten(1), kept, dim=1).indices
    x = (indices % width).to(torch.float) + 0.5
    y = torch.div(indices, width, rounding_mode="floor").to(torch.float) + 0.5
    return indices, torch.stack((x / width, y / height), dim=-1)


def point_sample_fine_grained_features(
    features_list: Sequence[Tensor],
    feature_scales: Sequence[float],
    boxes: Sequence[Boxes],
    point_coords: Tensor,
) -> tuple[Tensor, Tensor]:
    """Sample features of the images at points given relative to boxes.

    Args:
        features_list: maps (B, C_l, H_l, W_l).
        feature_scales: 1 / stride of each.
        boxes: boxes per image, R in total.
        point_coords: (R, P, 2) XY, 0 to 1 inside the box.

    Returns:
        (R, sum of C_l, P) features, and (R, P, 2) XY in pixels of the image.
    """
    corners = torch.cat([image_boxes.tensor for image_boxes in boxes])
    on_image = get_point_coords_wrt_image(corners, point_coords)
    # Not `len`, which would fix the number in a trace.
    per_image = on_image.split([image_boxes.tensor.shape[0] for image_boxes in boxes])
    features = []
    for maps, scale in zip(features_list, feature_scales, strict=True):
        size = shapes_to_tensor(list(maps.shape[-2:]), maps.device).flip(0) / scale
        sampled = [
            point_sample(map_[None], (points / size).view(1, -1, 2), align_corners=False)[0]
            .view(maps.shape[1], *points.shape[:2])
            .transpose(0, 1)
            for map_, points in zip(maps, per_image, strict=True)
        ]
        features.append(torch.cat(sampled))
    return torch.cat(features, dim=1), on_image


def get_point_coords_wrt_image(boxes_coords: Tensor, point_coords: Tensor) -> Tensor:
    """Map (R, P, 2) XY in [0, 1] inside (R, 4) XYXY boxes to pixels of the image; no gradient."""
    with torch.no_grad():
        corner, opposite = boxes_coords[:, None, :2], boxes_coords[:, None, 2:]
        return point_coords * (opposite - corner) + corner


def sample_point_labels(instances: Sequence[Instances], point_coords: Tensor) -> Tensor:
    """Sample the ground-truth masks at points: (R, P) values in [0, 1].

    Args:
        instances: per image with "gt_masks", R in total.
        point_coords: (R, P, 2) XY in pixels.
    """
    with torch.no_grad():
        per_image = point_coords.split([len(image) for image in instances])
        labels = []
        for image, points in zip(instances, per_image, strict=True):
            if len(image) == 0:
                continue
            height, width = image.image_size
            masks = image.gt_masks
            if not isinstance(masks, BitMasks):
                masks = BitMasks.from_polygon_masks(masks.polygons, height, width)
            size = torch.tensor([width, height], dtype=torch.float, device=points.device)
            values = point_sample(
                masks.tensor.to(torch.float32)[:, None], points / size, align_corners=False
            )
            labels.append(values.squeeze(1))
        return torch.cat(labels)
