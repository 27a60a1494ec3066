"""The transformer encoder of DETR: self-attention over all pixels of a feature map.

Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv:2005.12872,
appendix A.3.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from d2ext.modeling.transformer.attention import MultiheadAttention
from d2ext.modeling.transformer.dropout import Dropout
from d2ext.modeling.transformer.mlp import FeedForward


class TransformerEncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with residual and layer norm.

    Args:
        channels: width of the tokens.
        num_heads: heads of the attention.
        feedforward: width of the hidden layer of the feed-forward part.
        dropout: rate of all dropouts.
        activation: of the feed-forward part, a key of `mlp.ACTIVATIONS`.
        pre_norm: norms come before attention and feed-forward; otherwise after the residuals.
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
        self.feed_forward = FeedForward(channels, feedforward, dropout, activation)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, position: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Attend among the tokens.

        Args:
            tokens: (B, S, channels).
            position: (B, S, channels), added to queries and keys.
            padding_mask: (B, S) bool, True on padding.
        Returns:
            (B, S, channels).
        """
        if self.pre_norm:
            tokens = tokens + self._attend(self.norm1(tokens), position, padding_mask)
            return tokens + self.feed_forward(self.norm2(tokens))
        tokens = self.norm1(tokens + self._attend(tokens, position, padding_mask))
        return self.norm2(tokens + self.feed_forward(tokens))

    def _attend(self, tokens: Tensor, position: Tensor, padding_mask: Tensor | None) -> Tensor:
        query = tokens + position
        return self.dropout(self.self_attn(query, query, tokens, key_padding_mask=padding_mask))


class TransformerEncoder(nn.Module):
    """A stack of encoder layers.

    Args:
        layer: copied `num_layers` times.
        norm: applied to the output of the last layer, if given.
        position_scale: computes from the tokens a factor of the position encoding, anew before
            each layer (DAB-DETR).
        use_checkpoint: gradient checkpointing; layers are computed again in the backward pass.
    """

    def __init__(
        self,
        layer: nn.Module,
        num_layers: int,
        norm: nn.Module | None = None,
        position_scale: nn.Module | None = None,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(deepcopy(layer) for _ in range(num_layers))
        self.norm, self.position_scale = norm, position_scale
        self.use_checkpoint = use_checkpoint

    def forward(self, tokens: Tensor, position: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Return the memory, (B, S, channels); arguments as those of the layer."""
        for layer in self.layers:
            here = position
            if self.position_scale is not None:
                here = position * self.position_scale(tokens)
            tokens = run_layer(self.use_checkpoint, layer, tokens, here, padding_mask)
        return tokens if self.norm is None else self.norm(tokens)


def run_layer(use_checkpoint: bool, layer: Callable[..., Any], *args: Any) -> Any:
    """Call a layer, under gradient checkpointing if asked and gradients are recorded."""
    if use_checkpoint and torch.is_grad_enabled():
        return checkpoint(layer, *args, use_reentrant=False)
    return layer(*args)
