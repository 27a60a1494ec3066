"""The transformer decoder of DETR: queries attend to each other and to the encoder's memory.

Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv:2005.12872,
appendix A.3.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from d2ext.modeling.transformer.attention import MultiheadAttention
from d2ext.modeling.transformer.dropout import Dropout
from d2ext.modeling.transformer.encoder import run_layer
from d2ext.modeling.transformer.mlp import FeedForward


class TransformerDecoderLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward, each with residual and layer norm.

    Args: as those of `TransformerEncoderLayer`.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        feedforward: int,
        dropout: float = 0.0,
        activation: str = "relu",
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attn = MultiheadAttention(channels, num_heads, dropout)
        self.multihead_attn = MultiheadAttention(channels, num_heads, dropout)
        self.feed_forward = FeedForward(channels, feedforward, dropout, activation)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        queries: Tensor,
        query_position: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        padding_mask: Tensor | None,
    ) -> Tensor:
        """Attend among the queries, then to the memory.

        Args:
            queries: (B, Q, channels).
            query_position: (B, Q, channels), added to queries and keys of the queries.
            memory: (B, S, channels).
            memory_position: (B, S, channels), added to the keys of the memory.
            padding_mask: (B, S) bool, True on padding of the memory.
        Returns:
            (B, Q, channels).
        """
        keys = memory + memory_position
        if self.pre_norm:
            queries = queries + self._attend_queries(self.norm1(queries), query_position)
            query = self.norm2(queries) + query_position
            queries = queries + self._attend_memory(query, keys, memory, padding_mask)
            return queries + self.feed_forward(self.norm3(queries))
        queries = self.norm1(queries + self._attend_queries(queries, query_position))
        query = queries + query_position
        queries = self.norm2(queries + self._attend_memory(query, keys, memory, padding_mask))
        return self.norm3(queries + self.feed_forward(queries))

    def _attend_queries(self, queries: Tensor, position: Tensor) -> Tensor:
        query = queries + position
        return self.dropout(self.self_attn(query, query, queries))

    def _attend_memory(
        self, query: Tensor, keys: Tensor, memory: Tensor, padding_mask: Tensor | None
    ) -> Tensor:
        attended = self.multihead_attn(query, keys, memory, key_padding_mask=padding_mask)
        return self.dropout(attended)


class TransformerDecoder(nn.Module):
    """A stack of decoder layers, whose outputs all pass through one layer norm.

    Args:
        layer: copied `num_layers` times.
        num_layers: number of layers.
        norm: of what goes into the heads; not applied between layers.
        use_checkpoint: gradient checkpointing; layers are computed again in the backward pass.
    """

    def __init__(
        self, layer: nn.Module, num_layers: int, norm: nn.Module, use_checkpoint: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(deepcopy(layer) for _ in range(num_layers))
        self.norm, self.use_checkpoint = norm, use_checkpoint

    def forward(
        self,
        queries: Tensor,
        query_position: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        padding_mask: Tensor | None,
    ) -> Tensor:
        """Return the normed output of every layer, (L, B, Q, channels)."""
        context = (query_position, memory, memory_position, padding_mask)
        outputs = []
        for layer in self.layers:
            queries = run_layer(self.use_checkpoint, layer, queries, *context)
            outputs.append(queries)
        return self.norm(torch.stack(outputs))
