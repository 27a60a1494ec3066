"""Sampling of all cameras gives what one `grid_sample` per camera and level gives."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.projects.detr3d.modeling.sampling import project_points, sample_features

SIZES = ((8, 12), (4, 6), (2, 3))
AHEAD = [[48.0, -60, 0, 0], [32.0, 0, -60, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]]  # looks along x


def made_up(seen_share: float, dtype=torch.float64) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Levels, locations (some beyond the maps), seen and weights: two samples, three cameras."""
    generator = torch.Generator().manual_seed(3)
    levels = [torch.randn(6, 5, *size, generator=generator, dtype=dtype) for size in SIZES]
    locations = torch.rand(2, 3, 7, 2, generator=generator, dtype=dtype) * 1.2 - 0.1
    seen = torch.rand(2, 3, 7, generator=generator) < seen_share
    weights = torch.rand(2, 7, 3, len(SIZES), generator=generator, dtype=dtype)
    return levels, locations, seen, weights


def by_loop(levels: list[Tensor], locations: Tensor, seen: Tensor, weights: Tensor) -> Tensor:
    batch, cameras, queries = seen.shape
    output = levels[0].new_zeros(batch, queries, levels[0].shape[1])
    for b in range(batch):
        for n in range(cameras):
            for number, level in enumerate(levels):
                image = level[b * cameras + n][None]
                grid = 2 * locations[b, n][None, :, None] - 1
                samples = F.grid_sample(image, grid, align_corners=False)[0, :, :, 0].T
                output[b] += samples * (weights[b, :, n, number] * seen[b, n])[:, None]
    return output


def with_gradients(function, levels, locations, seen, weights) -> list[Tensor]:
    leaves = [tensor.requires_grad_() for tensor in (*levels, locations, weights)]
    output = function(levels, locations, seen, weights)
    seed = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    return [output, *torch.autograd.grad(output, leaves, seed)]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("seen_share", [0.0, 0.3, 1.0])
def test_output_and_gradients_equal_a_loop_over_cameras_and_levels(seen_share, memory_format):
    levels, *others = made_up(seen_share)
    levels = [level.contiguous(memory_format=memory_format) for level in levels]
    ours, theirs = (
        with_gradients(function, levels, *others) for function in (sample_features, by_loop)
    )
    for own, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, expected)


def test_gradients_equal_differences():
    levels, locations, seen, weights = made_up(0.5)
    leaves = [tensor.requires_grad_() for tensor in (*levels, locations, weights)]

    def sample(*tensors: Tensor) -> Tensor:
        return sample_features(tensors[:-2], tensors[-2], seen, tensors[-1])

    assert torch.autograd.gradcheck(sample, leaves)


def test_a_point_that_no_camera_sees_reads_nothing():
    points = torch.tensor([[[-5.0, 0, 0]]])
    locations, seen = project_points(points, torch.tensor([[AHEAD] * 6]), (64, 96))
    assert not seen.any()
    sampled = sample_features([torch.rand(6, 4, 8, 12)], locations, seen, torch.ones(1, 1, 6, 1))
    assert (sampled == 0).all()


def test_cameras_that_do_not_see_a_point_cannot_spoil_it():
    levels, locations, seen, weights = made_up(0.5)
    expected = sample_features(levels, locations, seen, weights)
    locations, weights = locations.clone(), weights.clone()
    locations[~seen] = float("nan")
    weights[~seen.transpose(1, 2)] = float("inf")
    assert torch.equal(sample_features(levels, locations, seen, weights), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_project_as_precisely_as_floats(dtype):
    points = torch.tensor([[[31.25, 20.5, -1.5]]])  # exact in both types
    lidar2img = torch.tensor([[AHEAD]])
    lidar2img[..., 0, 0] = 803.217
    expected, _ = project_points(points, lidar2img, (900, 1600))
    with torch.autocast("cpu", dtype=dtype):
        found, _ = project_points(points.to(dtype), lidar2img, (900, 1600))
    assert torch.equal(found, expected)


def test_maps_of_half_types_give_their_type():
    levels, locations, seen, weights = made_up(0.5, torch.float32)
    expected = sample_features(levels, locations, seen, weights)
    found = sample_features([each.bfloat16() for each in levels], locations, seen, weights)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.03, atol=0.03)
