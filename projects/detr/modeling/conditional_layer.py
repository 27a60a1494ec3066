"""The decoder layer of Conditional DETR and DAB-DETR: content and position attend separately.

Source: Meng et al., "Conditional DETR for Fast Training Convergence", 2021, arXiv:2108.06152,
section 3.3.
"""

from typing import Any

import torch
from torch import Tensor, nn

from d2ext.modeling.transformer import Dropout, FeedForward, multi_head_attention


class ConditionalSelfAttention(nn.Module):
    """Self-attention with own projections of content and position, which are added.

    Args:
        channels: width of the queries.
        num_heads: heads of the attention.
        dropout: rate of the attention weights in training.
    """

    def __init__(self, channels: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query_content, self.query_position = _linears(channels, 2)
        self.key_content, self.key_position = _linears(channels, 2)
        self.value, self.out_proj = _linears(channels, 2)

    def forward(self, queries: Tensor, position: Tensor) -> Tensor:
        """(B, Q, C) content and (B, Q, C) position -> (B, Q, C)."""
        attended = multi_head_attention(
            self.query_content(queries) + self.query_position(position),
            self.key_content(queries) + self.key_position(position),
            self.value(queries),
            self.num_heads,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.out_proj(attended)


class ConditionalCrossAttention(nn.Module):
    """Cross-attention whose heads see content and position side by side.

    Args:
        channels, num_heads, dropout: as those of `ConditionalSelfAttention`.
        adds_position: the learned query position is added to the content of the queries, and the
            keys' position to that of the keys, as in the first layer.
    """

    def __init__(
        self, channels: int, num_heads: int, dropout: float, adds_position: bool = False
    ) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query_content, self.key_content = _linears(channels, 2)
        self.query_sine, self.key_position = _linears(channels, 2)
        self.value, self.out_proj = _linears(channels, 2)
        self.query_position = nn.Linear(channels, channels) if adds_position else None

    def forward(
        self,
        queries: Tensor,
        query_position: Tensor,
        query_sine: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        padding_mask: Tensor | None,
    ) -> Tensor:
        """Attend to the memory; see `ConditionalDecoderLayer.forward`."""
        query, key = self.query_content(queries), self.key_content(memory)
        key_position = self.key_position(memory_position)
        if self.query_position is not None:
            query, key = query + self.query_position(query_position), key + key_position
        attended = multi_head_attention(
            self._side_by_side(query, self.query_sine(query_sine)),
            self._side_by_side(key, key_position),
            self.value(memory),
            self.num_heads,
            key_padding_mask=padding_mask,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.out_proj(attended)

    def _side_by_side(self, content: Tensor, position: Tensor) -> Tensor:
        """Concatenate two (B, S, C) per head: (B, S, 2 C)."""
        heads = (each.unflatten(-1, (self.num_heads, -1)) for each in (content, position))
        return torch.cat(tuple(heads), dim=-1).flatten(-2)


class ConditionalDecoderLayer(nn.Module):
    """Self-attention, conditional cross-attention, feed-forward; layer norms after residuals.

    Args:
        channels: width of queries and memory.
        num_heads: heads of the attentions.
        feedforward: width of the hidden layer of the feed-forward part.
        dropout: rate of all dropouts.
        activation: of the feed-forward part, a key of `mlp.ACTIVATIONS`.
        adds_position: see `ConditionalCrossAttention`.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        feedforward: int,
        dropout: float,
        activation: str,
        adds_position: bool = False,
    ) -> None:
        super().__init__()
        self.self_attn = ConditionalSelfAttention(channels, num_heads, dropout)
        self.cross_attn = ConditionalCrossAttention(channels, num_heads, dropout, adds_position)
        self.feed_forward = FeedForward(channels, feedforward, dropout, activation)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        queries: Tensor,
        query_position: Tensor,
        query_sine: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        padding_mask: Tensor | None,
    ) -> Tensor:
        """Attend among the queries, then to the memory.

        Args:
            queries: (B, Q, C) content.
            query_position: (B, Q, C) position of the queries for self-attention.
            query_sine: (B, Q, C) sine embedding of the reference points, for cross-attention.
            memory: (B, S, C).
            memory_position: (B, S, C).
            padding_mask: (B, S) bool, True on padding of the memory.
        Returns:
            (B, Q, C).
        """
        queries = self.norm1(queries + self.dropout(self.self_attn(queries, query_position)))
        attended = self.cross_attn(
            queries, query_position, query_sine, memory, memory_position, padding_mask
        )
        queries = self.norm2(queries + self.dropout(attended))
        return self.norm3(queries + self.feed_forward(queries))


def _linears(channels: int, count: int) -> list[nn.Linear]:
    return [nn.Linear(channels, channels) for _ in range(count)]


def conditional_layers(count: int, **options: Any) -> nn.ModuleList:
    """Build the layers of a decoder; the first one alone adds the query position to the content."""
    return nn.ModuleList(
        ConditionalDecoderLayer(**options, adds_position=index == 0) for index in range(count)
    )
