"""Parity of multi-scale deformable attention: the operator and the module, in two precisions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2ext.layers import MultiScaleDeformableAttention
from d2ext.ops import ms_deform_attn
from d2ext.parity import recipe
from d2ext.parity.case import Case
from d2ext.parity.readers import register_parity_reader
from d2ext.parity.settings import check_known

Outputs = Iterator[tuple[str, Tensor]]
# Settings of a function and of a module; a case also says what share of the points is outside.
KNOWN = {
    "functions": (
        *("batch", "heads", "head_channels", "queries", "points", "level_sizes_hw"),
        *("location_spread", "fraction_of_points_outside"),
    ),
    "modules": ("d_model", "n_levels", "n_heads", "n_points", "n", "q", "shapes", "ref"),
}


def deformable_attention(case: Case) -> dict[str, Tensor]:
    """Compute outputs and gradients of all functions and modules that the case describes."""
    check_known("config", case.config, ("words", *KNOWN, "edges"))
    check_known("config.edges", case.config["edges"], ("words", "positions"))
    for kind, names in KNOWN.items():
        for name, facts in case.config[kind].items():
            check_known(f"config.{kind}.{name}", facts, names)
    found: dict[str, Tensor] = {}
    for precision, dtype in ("f32", torch.float32), ("f64", torch.float64):
        # Two precisions: float64 shows errors of the formula, float32 those of accumulation.
        for name, facts in case.config["functions"].items():
            for key, value in _function(name, facts, dtype):
                found[f"{name}.{precision}.{key}"] = value
        found[f"edges.{precision}.output"] = _edges(case.config["edges"]["positions"], dtype)
        for name, facts in case.config["modules"].items():
            for key, value in _module(case, name, facts, dtype):
                found[f"module.{name}.{precision}.{key}"] = value
    return found


register_parity_reader(lambda facts: "functions" in facts.get("config", {}), deformable_attention)


def _function(name: str, facts: Mapping[str, Any], dtype: torch.dtype) -> Outputs:
    batch, queries, heads = facts["batch"], facts["queries"], facts["heads"]
    sizes, points, channels = facts["level_sizes_hw"], facts["points"], facts["head_channels"]
    shape = batch, queries, heads, len(sizes), points
    value = _made_up(f"{name}.value", (batch, _pixels(sizes), heads, channels), dtype)
    offsets = _made_up(f"{name}.locations", (*shape, 2), dtype, facts["location_spread"])
    logits = _made_up(f"{name}.logits", (*shape[:3], len(sizes) * points), dtype, 32)
    weights = logits.detach().softmax(-1).view(shape).requires_grad_()
    output = ms_deform_attn(value, sizes, offsets + 0.5, weights)
    yield "output", output
    leaves = {"grad_value": value, "grad_locations": offsets, "grad_weights": weights}
    yield from _gradients(name, output, leaves)


def _edges(positions: Sequence[float], dtype: torch.dtype) -> Tensor:
    """Read a map of counting numbers at and around its borders."""
    places = torch.tensor(positions, dtype=dtype)
    x, y = torch.meshgrid(places, places, indexing="ij")
    locations = torch.stack((x, y), dim=-1).view(1, -1, 1, 1, 1, 2)
    value = torch.arange(1, 33, dtype=dtype).view(1, 32, 1, 1)
    return ms_deform_attn(value, [(4, 8)], locations, torch.ones_like(locations[..., 0]))


def _module(case: Case, name: str, facts: Mapping[str, Any], dtype: torch.dtype) -> Outputs:
    channels, sizes, batch, queries = facts["d_model"], facts["shapes"], facts["n"], facts["q"]
    counts = facts["n_levels"], facts["n_heads"], facts["n_points"]
    module = MultiScaleDeformableAttention(channels, *counts)
    module.load_state_dict(case.published())
    module.to(dtype)
    query = _made_up(f"{name}.query", (batch, queries, channels), dtype)
    features = _made_up(f"{name}.input_flatten", (batch, _pixels(sizes), channels), dtype)
    shape = batch, queries, len(sizes), facts["ref"]
    points = _made_up(f"{name}.reference_points", shape, dtype).detach().sigmoid().requires_grad_()
    output = module(query, points, features, sizes, _padding(batch, sizes))
    yield "output", output
    leaves = {"grad_query": query, "grad_input_flatten": features, "grad_reference_points": points}
    leaves |= {f"grad.{key}": parameter for key, parameter in module.named_parameters()}
    yield from _gradients(name, output, leaves)


def _gradients(name: str, output: Tensor, leaves: Mapping[str, Tensor]) -> Outputs:
    seed = _made_up(f"{name}.grad_output", output.shape, output.dtype)
    grads = torch.autograd.grad(output, list(leaves.values()), seed)
    return zip(leaves, grads, strict=True)


def _made_up(name: str, shape: Sequence[int], dtype: torch.dtype, factor: float = 16) -> Tensor:
    """Make a leaf of the recipe's numbers for a flat array of that name, times the factor."""
    array = recipe.fill(f"ms_deform_attn.{name}", [int(np.prod(shape))]).reshape(shape)
    return torch.from_numpy(np.float32(factor) * array).to(dtype).requires_grad_()


def _pixels(sizes: Sequence[Sequence[int]]) -> int:
    return sum(height * width for height, width in sizes)


def _padding(batch: int, sizes: Sequence[Sequence[int]]) -> Tensor:
    """Return an (N, S) mask of the last column of every level of the second image."""
    masks = [torch.zeros(batch, height, width, dtype=torch.bool) for height, width in sizes]
    for mask in masks:
        mask[1, :, -1] = True
    return torch.cat([mask.flatten(1) for mask in masks], dim=1)
