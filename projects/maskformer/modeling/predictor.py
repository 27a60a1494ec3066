"""The transformer predictor of MaskFormer: DETR's decoder, whose queries predict class and mask.

Source: Cheng et al., "MaskFormer", 2021, arXiv:2107.06278, section 3.2.
"""

import torch
from torch import Tensor, nn

from d2ext.modeling.transformer import (
    MLP,
    SinePositionEncoding,
    TransformerDecoder,
)
from d2ext.projects.maskformer.modeling.pixel_decoder import (
    PixelFeatures,
    c2_xavier,
    pixel_positions,
    reset_xavier,
)
from d2ext.projects.maskformer.modeling.predictions import MaskPredictions


class QueryMasks(nn.Module):
    """Queries attend to the coarsest map; their embeddings are compared with those of the pixels.

    Args:
        channels: width of queries and pixel embeddings.
        num_queries: number of masks per image.
        decoder: transformer decoder.
        memory_channels: width of the memory, which is projected; None: it has `channels`.
    """

    def __init__(
        self,
        channels: int,
        num_queries: int,
        decoder: TransformerDecoder,
        memory_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.input_proj: nn.Module = nn.Identity()
        if memory_channels is not None:
            self.input_proj = c2_xavier(nn.Conv2d(memory_channels, channels, 1))
        self.position = SinePositionEncoding(channels)
        self.query_embed = nn.Embedding(num_queries, channels)
        self.decoder = decoder
        self.mask_embed = MLP(channels, channels, channels, num_layers=3)
        reset_xavier(decoder)

    def queries(self, features: PixelFeatures) -> Tensor:
        """Return the decoder's output of every layer, (L, B, Q, C)."""
        memory = self.input_proj(features.memory[0])
        position = pixel_positions(self.position, memory).flatten(2).mT
        query_position = self.query_embed.weight.expand(memory.shape[0], -1, -1)
        start = torch.zeros_like(query_position)
        return self.decoder(start, query_position, memory.flatten(2).mT, position, None)

    def masks(self, queries: Tensor, features: PixelFeatures) -> list[Tensor]:
        """Return the mask logits (B, Q, h, w) per layer of queries (L, B, Q, C)."""
        return mask_logits(self.mask_embed(queries), features.embeddings)


class TransformerPredictor(QueryMasks):
    """`QueryMasks` with a class per query.

    Args:
        num_classes: number of classes, without "no object".
        channels, options: those of `QueryMasks`.
    """

    def __init__(self, num_classes: int, channels: int, *args: object, **options: object) -> None:
        super().__init__(channels, *args, **options)  # type: ignore[arg-type]
        self.class_embed = nn.Linear(channels, num_classes + 1)

    def forward(self, features: PixelFeatures, all_layers: bool) -> MaskPredictions:
        """Predict from all decoder layers, or from the last one only."""
        queries = self.queries(features)
        queries = queries if all_layers else queries[-1:]
        return MaskPredictions(self.class_embed(queries), self.masks(queries, features))


def mask_logits(queries: Tensor, embeddings: Tensor) -> list[Tensor]:
    """Compare mask embeddings (L, B, Q, C) with those of pixels: (B, Q, h, w) per layer."""
    pixels = embeddings.flatten(2)
    return [(layer @ pixels).unflatten(2, embeddings.shape[-2:]) for layer in queries]
