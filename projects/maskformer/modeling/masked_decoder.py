"""The transformer decoder of Mask2Former: cross-attention within the mask predicted so far.

Source: Cheng et al., "Mask2Former", 2022, arXiv:2112.01527, section 3.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2ext.modeling.transformer import MLP, FeedForward, MultiheadAttention, SinePositionEncoding
from d2ext.projects.maskformer.modeling.pixel_decoder import (
    PixelFeatures,
    pixel_positions,
    reset_xavier,
)
from d2ext.projects.maskformer.modeling.predictions import MaskPredictions
from d2ext.projects.maskformer.modeling.predictor import mask_logits


class MaskedDecoderLayer(nn.Module):
    """Masked cross-attention, self-attention and feed-forward, each with residual and layer norm.

    Args:
        channels: width of queries and memory.
        num_heads: heads of both attentions.
        feedforward: hidden width of the feed-forward part.
        dropout: rate of all dropouts.
    """

    def __init__(
        self, channels: int, num_heads: int, feedforward: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.cross_attn = MultiheadAttention(channels, num_heads, dropout)
        self.self_attn = MultiheadAttention(channels, num_heads, dropout)
        self.feed_forward = FeedForward(channels, feedforward, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, queries: Tensor, query_position: Tensor, key: Tensor, value: Tensor, blocked: Tensor
    ) -> Tensor:
        """Attend to the pixels that are not blocked, then among the queries.

        Args:
            queries: (B, Q, C).
            query_position: (B, Q, C), added to queries, and to keys in self-attention.
            key: (B, S, C) pixels with their positions.
            value: (B, S, C) pixels.
            blocked: (B, Q, S) bool, True where a query may not attend.
        Returns:
            (B, Q, C).
        """
        attended = self.cross_attn(
            queries + query_position, key, value, attention_mask=blocked[:, None]
        )
        queries = self.norm1(queries + self.dropout(attended))
        query = queries + query_position
        queries = self.norm2(queries + self.dropout(self.self_attn(query, query, queries)))
        return self.norm3(queries + self.feed_forward(queries))


class MaskedTransformerDecoder(nn.Module):
    """Decoder layers that read the maps of the memory in turn, coarsest first.

    Args:
        num_classes: number of classes, without "no object".
        channels: width of queries, memory and pixel embeddings.
        num_queries: number of masks per image.
        num_levels: number of maps of the memory.
        num_layers: number of decoder layers; there is one prediction more.
        num_heads, feedforward, dropout: see `MaskedDecoderLayer`.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        num_queries: int,
        num_levels: int,
        num_layers: int,
        num_heads: int,
        feedforward: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.position = SinePositionEncoding(channels)
        self.layers = nn.ModuleList(
            MaskedDecoderLayer(channels, num_heads, feedforward, dropout) for _ in range(num_layers)
        )
        reset_xavier(self.layers)
        self.norm = nn.LayerNorm(channels)
        self.query_feat = nn.Embedding(num_queries, channels)
        self.query_embed = nn.Embedding(num_queries, channels)
        self.level_embed = nn.Embedding(num_levels, channels)
        self.class_embed = nn.Linear(channels, num_classes + 1)
        self.mask_embed = MLP(channels, channels, channels, num_layers=3)

    def forward(self, features: PixelFeatures, all_layers: bool) -> MaskPredictions:
        """Predict from the first queries and after every layer, or from the last layer only."""
        levels = [self._tokens(index, level) for index, level in enumerate(features.memory)]
        batch = features.embeddings.shape[0]  # `len` would fix the number in exported files
        queries = self.query_feat.weight.expand(batch, -1, -1)
        query_position = self.query_embed.weight.expand(batch, -1, -1)
        found = [self._predict(queries, features)]
        for index, layer in enumerate(self.layers):
            at = index % len(levels)
            blocked = blocked_pixels(found[-1][1], features.memory[at].shape[-2:])
            queries = layer(queries, query_position, *levels[at], allow_blind(blocked))
            found.append(self._predict(queries, features))
        found = found if all_layers else found[-1:]
        return MaskPredictions(torch.stack([logits for logits, _ in found]), [m for _, m in found])

    def _tokens(self, index: int, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, (B, S, C) each, of a map; only keys know their position."""
        value = level.flatten(2).mT + self.level_embed.weight[index]
        return value + pixel_positions(self.position, level).flatten(2).mT, value

    def _predict(self, queries: Tensor, features: PixelFeatures) -> tuple[Tensor, Tensor]:
        """Return class logits (B, Q, K + 1) and mask logits (B, Q, h, w)."""
        queries = self.norm(queries)
        (masks,) = mask_logits(self.mask_embed(queries)[None], features.embeddings)
        return self.class_embed(queries), masks


@torch.no_grad()
def blocked_pixels(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the pixels of a map outside of each predicted mask.

    Args:
        masks: (B, Q, h, w) logits.
        size: height and width of the map.
    Returns:
        (B, Q, height * width) bool.
    """
    # The order is published: logits are resized, not probabilities or decisions.
    resized = F.interpolate(masks, size=size, mode="bilinear")
    return resized.flatten(2).sigmoid() < 0.5


def allow_blind(blocked: Tensor) -> Tensor:
    """Open all pixels to queries that may not look at any: (B, Q, S) bool -> same."""
    return blocked & ~blocked.all(-1, keepdim=True)
