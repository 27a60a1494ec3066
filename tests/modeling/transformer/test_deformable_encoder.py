import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from d2ext.modeling.transformer.deformable_encoder import (
    DeformableEncoder,
    DeformableEncoderLayer,
    FlatLevels,
)


def make_encoder(levels: int, **options) -> DeformableEncoder:
    torch.manual_seed(0)
    layer = DeformableEncoderLayer(
        channels=16, num_heads=2, feedforward=24, num_levels=levels, num_points=2
    )
    encoder = DeformableEncoder(layer, num_layers=2, **options)
    for parameter in encoder.parameters():  # initial sampling ignores the tokens
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


def maps_of(sizes, batch: int = 1):
    return [torch.randn(batch, 16, height, width) for height, width in sizes]


def unpadded(maps) -> FlatLevels:
    masks = [torch.zeros(len(each), *each.shape[-2:], dtype=torch.bool) for each in maps]
    return FlatLevels.from_maps(maps, [each * 0.5 for each in maps], masks)


def padded(maps, sizes) -> FlatLevels:
    """The same maps at the top left of larger ones, whose padding holds large values."""
    larger, masks = [], []
    for each, (height, width) in zip(maps, sizes, strict=True):
        own = each.shape[-2:]
        larger.append(torch.full((len(each), 16, height, width), 9.0))
        larger[-1][..., : own[0], : own[1]] = each
        masks.append(torch.ones(len(each), height, width, dtype=torch.bool))
        masks[-1][:, : own[0], : own[1]] = False
    return FlatLevels.from_maps(larger, [each * 0.5 for each in larger], masks)


def test_reference_points_are_pixel_centers_scaled_to_each_level():
    masks = [torch.tensor([[[False, True]]]), torch.tensor([[[False]]])]
    maps = [torch.zeros(1, 16, 1, 2), torch.zeros(1, 16, 1, 1)]
    levels = FlatLevels.from_maps(maps, maps, masks)
    assert levels.valid_ratios[0].tolist() == [[0.5, 1.0], [1.0, 1.0]]
    points = levels.reference_points()[0]  # (3 tokens, 2 levels, 2)
    expected = [[[0.25, 0.5], [0.5, 0.5]], [[0.75, 0.5], [1.5, 0.5]], [[0.25, 0.5], [0.5, 0.5]]]
    torch.testing.assert_close(points, torch.tensor(expected))


def test_tokens_run_level_after_level_and_row_by_row():
    fine = torch.arange(4.0).view(1, 1, 2, 2).expand(1, 16, 2, 2)
    coarse = torch.full((1, 16, 1, 1), 7.0)
    levels = unpadded([fine, coarse])
    assert levels.tokens[0, :, 0].tolist() == [0, 1, 2, 3, 7]
    assert levels.spatial_shapes == ((2, 2), (1, 1))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 5), st.integers(0, 5))
def test_padding_changes_no_token_of_an_image(height, width, below, right):
    encoder = make_encoder(levels=2).eval()
    torch.manual_seed(height * 7 + width)
    maps = maps_of([(height, width), (2, 3)])
    with torch.no_grad():
        alone = unpadded(maps)
        together = padded(maps, [(height + below, width + right), (2, 3 + right)])
        expected, found = encoder(alone), encoder(together)
    kept = found[0][~together.padding_mask[0]]
    torch.testing.assert_close(kept, expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [[(3, 4)], [(4, 4), (2, 2), (1, 1)]])
def test_gradient_checkpointing_changes_no_gradient(sizes):
    maps = maps_of(sizes, batch=2)
    gradients = []
    for use_checkpoint in (False, True):
        encoder = make_encoder(len(sizes), use_checkpoint=use_checkpoint).train()
        encoder(unpadded(maps)).square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_compiles_without_graph_breaks():
    encoder, levels = make_encoder(levels=2).eval(), unpadded(maps_of([(4, 4), (2, 2)]))
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(levels), encoder(levels))
