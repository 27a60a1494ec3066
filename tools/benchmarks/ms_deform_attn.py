"""Multi-scale deformable attention compared with one `grid_sample` call per level."""

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.measure import Problem
from benchmarks.problems import register_problems
from d2ext.ops import ms_deform_attn, reference

SIZES = [(100, 152), (50, 76), (25, 38), (13, 19)]  # of an 800x1216 image
PIXELS = sum(height * width for height, width in SIZES)
HEADS, POINTS, CHANNELS = 8, 4, 32


def problems(device: torch.device, dtype: torch.dtype) -> Iterator[Problem]:
    """Yield an encoder layer, where every pixel is a query, and a decoder layer."""
    yield problem("encoder", _pixel_centres(), device, dtype, (10, 8))
    yield problem("decoder", torch.rand(300, 2, generator=_generator()), device, dtype)


def problem(
    title: str,
    reference_points: Tensor,
    device: torch.device,
    dtype: torch.dtype,
    goals: tuple[float | None, float | None] = (None, None),
) -> Problem:
    """Build a problem whose queries sample a few pixels around their reference points.

    Args:
        reference_points: (Q, 2) x and y, normalised.
        goals: least ratio to the peer, forward and with backward.
    """
    generator, queries = _generator(), len(reference_points)
    sides = torch.tensor([(width, height) for height, width in SIZES])[:, None]
    # With a standard deviation of two pixels on each level.
    offsets = 2 * torch.randn(queries, HEADS, len(SIZES), POINTS, 2, generator=generator)
    locations = reference_points[:, None, None, None] + offsets / sides
    logits = torch.randn(queries, HEADS, len(SIZES) * POINTS, generator=generator)
    weights = logits.softmax(-1).view(queries, HEADS, len(SIZES), POINTS)
    value = torch.randn(PIXELS, HEADS, CHANNELS, generator=generator)
    tensors = [tensor[None].to(device) for tensor in (value, locations, weights)]
    tensors[0] = tensors[0].to(dtype)
    value, locations, weights = (tensor.requires_grad_() for tensor in tensors)
    return Problem(
        title=f"ms_deform_attn, {title}: {queries} queries, {len(SIZES)} levels, {HEADS} heads, "
        f"{POINTS} points, {HEADS * CHANNELS} channels",
        inputs=[value, SIZES, locations, weights],
        ways={"d2ext": ms_deform_attn, "grid_sample": by_grid_sample},
        peer="grid_sample",
        goals=goals,
    )


def by_grid_sample(
    value: Tensor, sizes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Compute the peer's way, in float32 for half types."""
    flat = [side for size in sizes for side in size]
    return reference.ms_deform_attn_by_grid_sample(value, flat, locations, weights)


def _pixel_centres() -> Tensor:
    centres = []
    for height, width in SIZES:
        y, x = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
        centres.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1))
    return torch.cat(centres)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


register_problems("ops", "ms_deform_attn", problems)
