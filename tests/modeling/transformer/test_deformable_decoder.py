import pytest
import torch
from torch import nn

from d2ext.modeling.transformer.deformable_decoder import (
    AnchorPosition,
    DeformableDecoder,
    DeformableDecoderLayer,
    box_logits,
)
from d2ext.modeling.transformer.deformable_encoder import FlatLevels
from d2ext.modeling.transformer.mlp import MLP

CHANNELS, QUERIES = 16, 5


def make_decoder(**options) -> DeformableDecoder:
    torch.manual_seed(0)
    layer = DeformableDecoderLayer(
        channels=CHANNELS, num_heads=2, feedforward=24, num_levels=1, num_points=2
    )
    decoder = DeformableDecoder(layer, num_layers=2, **options)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return decoder


def make_inputs(batch: int = 1, points: int = 4):
    torch.manual_seed(1)
    maps = [torch.randn(batch, CHANNELS, 3, 4)]
    levels = FlatLevels.from_maps(maps, maps, [torch.zeros(batch, 3, 4, dtype=torch.bool)])
    queries = torch.randn(batch, QUERIES, CHANNELS)
    return queries, torch.rand(batch, QUERIES, points), levels.tokens, levels


def box_heads(layers: int = 2) -> nn.ModuleList:
    torch.manual_seed(2)
    return nn.ModuleList(MLP(CHANNELS, CHANNELS, 4, 2) for _ in range(layers))


def test_logits_are_those_of_a_box_and_of_a_point_as_large_as_half_the_image():
    box = torch.tensor([[0.2, 0.4, 0.1, 0.3]])
    torch.testing.assert_close(box_logits(box, 1e-5).sigmoid(), box)
    found = box_logits(box[:, :2], 1e-5).sigmoid()
    torch.testing.assert_close(found, torch.tensor([[0.2, 0.4, 0.5, 0.5]]))


def test_references_stay_without_box_heads():
    queries, references, memory, levels = make_inputs(points=2)
    states = make_decoder()(queries, references, memory, levels, query_position=queries)
    assert len(states.outputs) == 2
    assert len(states.references) == 3
    assert all(each is references for each in states.references)


def test_points_become_boxes_once_refined():
    queries, references, memory, levels = make_inputs(points=2)
    decoder, heads = make_decoder(), box_heads()
    states = decoder(queries, references, memory, levels, query_position=queries, box_heads=heads)
    assert [each.shape[-1] for each in states.references] == [2, 4, 4]


@pytest.mark.parametrize("twice", [False, True])
def test_only_looking_forward_twice_trains_the_head_before(twice):
    queries, references, memory, levels = make_inputs()
    decoder, heads = make_decoder(look_forward_twice=twice), box_heads()
    states = decoder(queries, references, memory, levels, query_position=queries, box_heads=heads)
    assert states.references[1].requires_grad == twice
    states.outputs[1].sum().backward()  # the next layer never sends gradients through references
    assert all(parameter.grad is None for parameter in heads.parameters())


def test_norm_changes_what_heads_see_but_not_the_next_layer():
    queries, references, memory, levels = make_inputs()
    plain, normed = make_decoder(), make_decoder(norm=nn.LayerNorm(CHANNELS))
    normed.layers.load_state_dict(plain.layers.state_dict())
    inputs = (queries, references, memory, levels)
    expected = plain(*inputs, query_position=queries).outputs
    found = normed(*inputs, query_position=queries).outputs
    for each, own in zip(expected, found, strict=True):
        torch.testing.assert_close(own, normed.norm(each))


def test_masked_queries_have_no_influence():
    queries, references, memory, levels = make_inputs()
    mask = torch.zeros(QUERIES, QUERIES, dtype=torch.bool)
    mask[2:, :2] = True
    decoder = make_decoder()

    def last(queries):
        states = decoder(
            queries, references, memory, levels, query_position=queries * 0, attention_mask=mask
        )
        return states.outputs[-1]

    changed = queries.clone()
    changed[:, :2] += 1
    before, after = last(queries), last(changed)
    torch.testing.assert_close(after[:, 2:], before[:, 2:])
    assert not torch.allclose(after[:, :2], before[:, :2])


def test_padding_changes_no_query_when_positions_are_given():
    queries, references, memory, levels = make_inputs()
    larger = torch.full((1, CHANNELS, 5, 7), 9.0)
    larger[..., :3, :4] = memory.mT.unflatten(-1, (3, 4))
    mask = torch.ones(1, 5, 7, dtype=torch.bool)
    mask[:, :3, :4] = False
    padded = FlatLevels.from_maps([larger], [larger], [mask])
    decoder, heads = make_decoder(), box_heads()
    expected = decoder(queries, references, memory, levels, query_position=queries, box_heads=heads)
    found = decoder(
        queries, references, padded.tokens, padded, query_position=queries, box_heads=heads
    )
    torch.testing.assert_close(found.outputs[-1], expected.outputs[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_query_scale_counts_from_the_second_layer_on(scaled):
    position = AnchorPosition(CHANNELS, scaled)
    anchors, queries = torch.rand(1, QUERIES, 4), torch.randn(1, QUERIES, CHANNELS)
    first, second = position(anchors, queries, True), position(anchors, queries, False)
    assert torch.equal(first, second) != scaled


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for use_checkpoint in (False, True):
        decoder = make_decoder(
            anchor_position=AnchorPosition(CHANNELS, True), use_checkpoint=use_checkpoint
        )
        states = decoder(*make_inputs(batch=2), box_heads=box_heads())
        states.outputs[-1].square().sum().backward()
        gradients.append([parameter.grad for parameter in decoder.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_compiles_without_graph_breaks():
    decoder = make_decoder(anchor_position=AnchorPosition(CHANNELS, True)).eval()
    inputs, heads = make_inputs(), box_heads()

    def last(*inputs):
        return decoder(*inputs, box_heads=heads).outputs[-1]

    compiled = torch.compile(last, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), last(*inputs))
