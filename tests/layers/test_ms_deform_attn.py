import math

import pytest
import torch

from d2ext.layers import MultiScaleDeformableAttention

SIZES = [(4, 6), (2, 3)]


def test_the_parameters_have_the_published_names_and_shapes():
    module = MultiScaleDeformableAttention(32, num_levels=3, num_heads=4, num_points=2)
    shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
    assert shapes == {
        "sampling_offsets.weight": (48, 32),
        "sampling_offsets.bias": (48,),
        "attention_weights.weight": (24, 32),
        "attention_weights.bias": (24,),
        "value_proj.weight": (32, 32),
        "value_proj.bias": (32,),
        "output_proj.weight": (32, 32),
        "output_proj.bias": (32,),
    }
    with pytest.raises(ValueError, match="5 heads"):
        MultiScaleDeformableAttention(32, num_heads=5)


def test_initial_offsets_of_eight_heads_point_at_eight_neighbours():
    module = MultiScaleDeformableAttention(16, num_levels=2, num_heads=8, num_points=3)
    offsets = module.sampling_offsets.bias.detach().view(8, 2, 3, 2)
    sides = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    for point in range(3):
        expected = torch.tensor(sides).float() * (point + 1)
        for level in range(2):
            torch.testing.assert_close(offsets[:, level, point], expected, atol=1e-5, rtol=0)
    assert not module.sampling_offsets.weight.any()
    assert not module.attention_weights.weight.any()
    bound = math.sqrt(6 / 32)  # Xavier's, for 16 to 16 channels
    assert bound / 2 < module.value_proj.weight.abs().max() <= bound


@pytest.mark.parametrize("coordinates", [2, 4])
def test_the_initial_output_is_the_mean_of_the_sampled_features(coordinates):
    module = MultiScaleDeformableAttention(4, num_levels=2, num_heads=1, num_points=1)
    with torch.no_grad():
        for projection in (module.value_proj, module.output_proj):
            projection.weight.copy_(torch.eye(4))
    ramps = [(torch.arange(w) + 0.5).expand(h, w).flatten() / w for h, w in SIZES]
    features = torch.cat(ramps)[None, :, None].expand(1, -1, 4)  # a pixel's x in parts of the map
    points = torch.full((1, 1, 2, coordinates), 0.5)
    points[..., 2:] = 0.25
    output = module(torch.rand(1, 1, 4), points, features, SIZES)
    # One pixel to the right of the middle; or half the box's width.
    shift = (1 / 6 + 1 / 3) / 2 if coordinates == 2 else 0.25 / 2
    torch.testing.assert_close(output, torch.full((1, 1, 4), 0.5 + shift))


def test_padding_counts_as_zero_despite_the_bias_of_the_projection():
    module = MultiScaleDeformableAttention(8, num_levels=2, num_heads=2)
    torch.nn.init.ones_(module.value_proj.bias)
    torch.nn.init.ones_(module.output_proj.bias)
    everything = torch.ones(1, 30, dtype=torch.bool)
    points = torch.rand(1, 5, 2, 2)
    output = module(torch.rand(1, 5, 8), points, torch.rand(1, 30, 8), SIZES, everything)
    assert torch.equal(output, torch.ones_like(output))


def test_reference_points_of_three_coordinates_are_an_error():
    module = MultiScaleDeformableAttention(8, num_levels=2, num_heads=2)
    with pytest.raises(ValueError, match="2 or 4"):
        module(torch.rand(1, 5, 8), torch.rand(1, 5, 2, 3), torch.rand(1, 30, 8), SIZES)


def test_autocast_keeps_the_locations_in_float32(device):
    module = MultiScaleDeformableAttention(8, num_levels=2, num_heads=2).to(device)
    inputs = torch.rand(1, 5, 8), torch.rand(1, 5, 2, 2), torch.rand(1, 30, 8)
    inputs = [tensor.to(device) for tensor in inputs]
    expected = module(*inputs, SIZES)
    with torch.autocast(device.type, torch.bfloat16):
        output = module(*inputs, SIZES)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=0.05, atol=0.05)
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


class _Encoder(torch.nn.Module):
    """An encoder that takes the sizes of the levels from its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = MultiScaleDeformableAttention(8, num_levels=2, num_heads=2)

    def forward(self, query, points, *maps):
        features = torch.cat([level.flatten(2).mT for level in maps], dim=1)
        return self.attention(query, points, features, [level.shape[2:] for level in maps])


def test_an_exported_module_takes_other_batches_queries_and_sizes():
    encoder, auto = _Encoder(), torch.export.Dim.AUTO

    def inputs(batch: int, queries: int, sizes: list[tuple[int, int]]) -> tuple[torch.Tensor, ...]:
        maps = [torch.rand(batch, 8, *size) for size in sizes]
        return torch.rand(batch, queries, 8), torch.rand(batch, queries, 2, 2), *maps

    dynamic = {0: auto, 1: auto}, {0: auto, 1: auto}, ({0: auto, 2: auto, 3: auto},) * 2
    program = torch.export.export(encoder, inputs(2, 5, SIZES), dynamic_shapes=dynamic)
    other = inputs(3, 4, [(5, 9), (7, 4)])
    torch.testing.assert_close(program.module()(*other), encoder(*other))
