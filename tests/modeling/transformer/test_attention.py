import pytest
import torch
from torch import nn

from d2ext.modeling.transformer import MultiheadAttention, multi_head_attention


@pytest.fixture
def pair():
    """Our module and PyTorch's with the same parameters."""
    torch.manual_seed(0)
    own, torchs = MultiheadAttention(32, 4), nn.MultiheadAttention(32, 4, batch_first=True)
    nn.init.normal_(own.in_proj_bias)
    torchs.load_state_dict(own.state_dict())
    return own, torchs


@pytest.fixture
def tokens():
    torch.manual_seed(1)
    return torch.randn(2, 5, 32), torch.randn(2, 7, 32), torch.randn(2, 7, 32)


def test_it_is_torchs_attention(pair, tokens):
    own, torchs = pair
    torch.testing.assert_close(own(*tokens), torchs(*tokens)[0])


def test_it_is_torchs_attention_with_masks(pair, tokens):
    own, torchs = pair
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 4:] = True
    forbidden = torch.rand(5, 7) > 0.7
    forbidden[:, 0] = False  # every query may see something
    found = own(*tokens, key_padding_mask=padding, attention_mask=forbidden)
    expected = torchs(*tokens, key_padding_mask=padding, attn_mask=forbidden)[0]
    torch.testing.assert_close(found, expected)


def test_padded_keys_have_no_influence(pair, tokens):
    own, _ = pair
    query, key, value = tokens
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[:, 5:] = True
    before = own(query, key, value, key_padding_mask=padding)
    after = own(
        query, key.clone(), torch.cat((value[:, :5], value[:, 5:] + 9), 1), key_padding_mask=padding
    )
    torch.testing.assert_close(before, after)


def test_values_may_be_narrower_than_keys():
    attended = multi_head_attention(
        torch.randn(1, 3, 16), torch.randn(1, 4, 16), torch.ones(1, 4, 8), 2
    )
    torch.testing.assert_close(attended, torch.ones(1, 3, 8))


def test_dropout_acts_in_training_only(tokens):
    module = MultiheadAttention(32, 4, dropout=0.5)
    assert not torch.equal(module(*tokens), module(*tokens))
    module.eval()
    assert torch.equal(module(*tokens), module(*tokens))


def test_channels_must_divide_into_heads():
    with pytest.raises(ValueError, match="30 channels can't be split into 4 heads"):
        MultiheadAttention(30, 4)
