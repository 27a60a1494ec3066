import pytest
import torch
from torch import nn

from d2ext.modeling.transformer import (
    MLP,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)


def encoder(**options) -> TransformerEncoder:
    torch.manual_seed(0)
    pre_norm = options.pop("pre_norm", False)
    layer = TransformerEncoderLayer(16, 2, 32, pre_norm=pre_norm)
    return TransformerEncoder(layer, 2, **options)


def decoder(**options) -> TransformerDecoder:
    torch.manual_seed(0)
    layer = TransformerDecoderLayer(16, 2, 32, pre_norm=options.pop("pre_norm", False))
    return TransformerDecoder(layer, 3, nn.LayerNorm(16), **options)


@pytest.fixture
def tokens():
    torch.manual_seed(1)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[1, 4:] = True
    return torch.randn(2, 6, 16), torch.randn(2, 6, 16), padding


def as_torchs_layer(layer: TransformerEncoderLayer, pre_norm: bool) -> nn.TransformerEncoderLayer:
    torchs = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True, norm_first=pre_norm)
    state = {name.removeprefix("feed_forward."): v for name, v in layer.state_dict().items()}
    torchs.load_state_dict(state)
    return torchs


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_layer_without_positions_is_torchs(tokens, pre_norm):
    features, _, padding = tokens
    layer = encoder(pre_norm=pre_norm).layers[0]
    expected = as_torchs_layer(layer, pre_norm)(features, src_key_padding_mask=padding)
    found = layer(features, torch.zeros_like(features), padding)
    torch.testing.assert_close(found[~padding], expected[~padding])


def test_padding_has_no_influence_on_the_memory(tokens):
    features, position, padding = tokens
    model = encoder()
    other = features.masked_fill(padding[..., None], 7.0)
    found, expected = model(other, position, padding), model(features, position, padding)
    torch.testing.assert_close(found[~padding], expected[~padding])


def test_the_position_may_be_scaled_anew_before_each_layer(tokens):
    features, position, padding = tokens
    scale = MLP(16, 16, 16, num_layers=2)
    nn.init.zeros_(scale.layers[-1].weight)
    nn.init.constant_(scale.layers[-1].bias, 2.0)
    found = encoder(position_scale=scale)(features, position, padding)
    torch.testing.assert_close(found, encoder()(features, 2 * position, padding))


def test_every_layers_output_is_normed_once(tokens):
    memory, position, padding = tokens
    model = decoder()
    queries, query_position = torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    outputs = model(queries, query_position, memory, position, padding)
    assert outputs.shape == (3, 2, 5, 16)
    first = model.layers[0](queries, query_position, memory, position, padding)
    torch.testing.assert_close(outputs[0], model.norm(first))


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_gradient_checkpointing_changes_no_gradient(tokens, part):
    features, position, padding = tokens
    grads = []
    for use_checkpoint in (False, True):
        if part == "encoder":
            model = encoder(use_checkpoint=use_checkpoint)
            found = model(features, position, padding)
        else:
            model = decoder(use_checkpoint=use_checkpoint)
            found = model(features, features, features, position, padding)
        found.square().sum().backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(grads[0], grads[1])
