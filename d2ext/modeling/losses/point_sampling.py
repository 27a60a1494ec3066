"""Sampling of masks at points, and the selection of points where a mask is uncertain.

Source: Kirillov et al., "PointRend", 2020, arXiv:1912.08193, section 3.2; Cheng et al.,
"Mask2Former", 2022, arXiv:2112.01527, section 3.3.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Draws points, uniform in [0, 1), from a name that is unique within a step and a shape.
PointDraw = Callable[[str, Sequence[int], torch.device], Tensor]


def random_points(name: str, shape: Sequence[int], device: torch.device) -> Tensor:
    """Draw float32 points from torch's global generator; the name is not used."""
    return torch.rand(tuple(shape), device=device)


def pixel_centers(maps: Tensor) -> Tensor:
    """Return the centres of all pixels of maps (..., H, W) as points: (1, H W, 2)."""
    height, width = maps.shape[-2:]
    y = (torch.arange(height, device=maps.device) + 0.5) / height
    x = (torch.arange(width, device=maps.device) + 0.5) / width
    return torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), dim=-1).view(1, -1, 2)


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Interpolate maps bilinearly at points; 0 is assumed beyond the border.

    Args:
        maps: (N, C, H, W).
        points: (N, P, 2) x and y; 0 and 1 are the borders of the map.
    Returns:
        (N, C, P).
    """
    grid = 2 * points.to(maps.dtype)[:, None] - 1
    return F.grid_sample(maps, grid, align_corners=False).squeeze(2)


def most_uncertain(logits: Tensor, count: int) -> Tensor:
    """Return the indices of the `count` logits next to 0 in each row: (N, P) -> (N, count)."""
    return logits.abs().topk(count, dim=1, largest=False).indices


def importance_points(
    logits: Tensor, candidates: Tensor, rest: Tensor, num_uncertain: int
) -> Tensor:
    """Select the most uncertain of the candidates and add the rest.

    Args:
        logits: (N, h, w) predicted masks.
        candidates: (N, P, 2) points to choose from.
        rest: (N, R, 2) points that are taken as they are.
        num_uncertain: number of candidates to select per mask.
    Returns:
        (N, num_uncertain + R, 2).
    """
    at_candidates = sample_points(logits[:, None], candidates)[:, 0]
    chosen = most_uncertain(at_candidates, num_uncertain)
    chosen = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat((chosen, rest), dim=1)
