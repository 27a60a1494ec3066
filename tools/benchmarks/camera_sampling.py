"""Sampling of six cameras by DETR3D compared with one `grid_sample` per camera and level."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Problem
from benchmarks.problems import register_problems
from d2ext.projects.detr3d.modeling.sampling import sample_features

SIZES = [(116, 200), (58, 100), (29, 50), (15, 25)]  # of a 928x1600 image
CAMERAS, QUERIES, CHANNELS = 6, 900, 256
SEEN = 0.2  # share of the cameras that see a point


def problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Yield the sampling of one decoder layer; both ways get the maps as the pyramid has them."""
    generator = torch.Generator().manual_seed(0)
    levels = [
        torch.randn(CAMERAS, CHANNELS, *size, generator=generator)
        .to(device, dtype)
        .requires_grad_()
        for size in SIZES
    ]
    locations = torch.rand(1, CAMERAS, QUERIES, 2, generator=generator).to(device)
    seen = (torch.rand(1, CAMERAS, QUERIES, generator=generator) < SEEN).to(device)
    shape = (1, QUERIES, CAMERAS, len(SIZES))
    weights = torch.rand(shape, generator=generator).to(device)
    yield Problem(
        title=f"camera sampling: {QUERIES} queries, {CAMERAS} cameras, {len(SIZES)} levels, "
        f"{CHANNELS} channels",
        inputs=[locations.requires_grad_(), seen, weights.requires_grad_(), *levels],
        ways={"d2ext": fused, "grid_sample": by_grid_sample},
        peer="grid_sample",
        goals=(3, 3),
    )


def fused(locations: Tensor, seen: Tensor, weights: Tensor, *levels: Tensor) -> Tensor:
    """Sample all cameras of a level in one call, only where they see a point."""
    return sample_features(levels, locations, seen, weights)


def by_grid_sample(locations: Tensor, seen: Tensor, weights: Tensor, *levels: Tensor) -> Tensor:
    """Sample each camera of each level by a call, keep all samples, then mask and sum them."""
    samples = []
    for level in levels:
        grids = (2 * locations[0] - 1).to(level.dtype)
        cameras = [
            F.grid_sample(level[c : c + 1], grids[c][None, :, None], align_corners=False)
            for c in range(CAMERAS)
        ]
        samples.append(torch.stack(cameras, dim=-1)[:, :, :, 0])  # (1, C, Q, N)
    stacked = torch.stack(samples, dim=-1)
    masked = weights * seen.transpose(1, 2)[..., None]
    return (stacked * masked[:, None].to(stacked.dtype)).sum((-1, -2)).transpose(1, 2)


register_problems("models", "camera_sampling", problems)
