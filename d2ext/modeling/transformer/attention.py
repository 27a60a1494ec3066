"""Multi-head attention on `torch.nn.functional.scaled_dot_product_attention`.

Source: Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, section 3.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    *,
    key_padding_mask: Tensor | None = None,
    attention_mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attend with projected queries, keys and values; heads are consecutive channels.

    Args:
        query: (B, Q, C), key: (B, S, C), value: (B, S, V); C and V are multiples of `num_heads`.
        key_padding_mask: (B, S) bool, True on keys that nobody may attend to.
        attention_mask: (Q, S) or (B, heads, Q, S) bool, True where a query may not attend.
        dropout: rate of the attention weights.
    Returns:
        (B, Q, V), heads concatenated.
    """
    allowed = _allowed(key_padding_mask, attention_mask)
    attended = F.scaled_dot_product_attention(
        _split_heads(query, num_heads),
        _split_heads(key, num_heads),
        _split_heads(value, num_heads),
        attn_mask=allowed,
        dropout_p=dropout,
    )
    return attended.transpose(1, 2).flatten(-2)


class MultiheadAttention(nn.Module):
    """Multi-head attention, batch first, with the parameters of `torch.nn.MultiheadAttention`.

    Args:
        channels: width of queries, keys, values and output; a multiple of `num_heads`.
        num_heads: number of heads.
        dropout: rate of the attention weights in training.
    """

    def __init__(self, channels: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels can't be split into {num_heads} heads")
        self.num_heads, self.dropout = num_heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        key_padding_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, Q, channels), (B, S, channels), (B, S, channels) -> (B, Q, channels).

        The masks are those of `multi_head_attention`.
        """
        weight, bias = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        attended = multi_head_attention(
            F.linear(query, weight[0], bias[0]),
            F.linear(key, weight[1], bias[1]),
            F.linear(value, weight[2], bias[2]),
            self.num_heads,
            key_padding_mask=key_padding_mask,
            attention_mask=attention_mask,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.out_proj(attended)


def _split_heads(tokens: Tensor, num_heads: int) -> Tensor:
    """(B, S, C) -> (B, heads, S, C / heads)."""
    return tokens.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _allowed(key_padding_mask: Tensor | None, attention_mask: Tensor | None) -> Tensor | None:
    """Return SDPA's boolean mask: True where a query may attend."""
    allowed = None if attention_mask is None else ~attention_mask
    if key_padding_mask is None:
        return allowed
    unpadded = ~key_padding_mask[:, None, None, :]
    return unpadded if allowed is None else unpadded & allowed
