"""DAB-DETR: queries are anchor boxes, refined by every decoder layer.

Source: Liu et al., "DAB-DETR: Dynamic Anchor Boxes are Better Queries for DETR", 2022,
arXiv:2201.12329.
"""

from typing import Any

import torch
from torch import Tensor, nn

from d2ext.modeling.set_prediction import SetPredictions
from d2ext.modeling.transformer import (
    MLP,
    TransformerEncoder,
    TransformerEncoderLayer,
    inverse_sigmoid,
    run_layer,
    sine_embedding,
)
from d2ext.projects.detr.modeling.conditional_detr import reset_heads
from d2ext.projects.detr.modeling.conditional_layer import conditional_layers
from d2ext.projects.detr.modeling.single_scale import (
    Memory,
    SingleScaleDETR,
    layer_options,
    reset_xavier,
)
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY


class AnchorDecoder(nn.Module):
    """Decoder layers with an anchor box per query, which each layer refines.

    Args:
        layers: see `conditional_layers`.
        channels: width of queries and memory.
        use_checkpoint: gradient checkpointing of the layers.
    """

    def __init__(self, layers: nn.ModuleList, channels: int, use_checkpoint: bool = False) -> None:
        super().__init__()
        self.layers, self.use_checkpoint = layers, use_checkpoint
        self.norm = nn.LayerNorm(channels)
        self.query_scale = MLP(channels, channels, channels, num_layers=2)
        self.ref_point_head = MLP(2 * channels, channels, channels, num_layers=2)
        self.ref_anchor_head = MLP(channels, channels, 2, num_layers=2)

    def forward(
        self, queries: Tensor, anchors: Tensor, memory: Memory, bbox_embed: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Run the layers.

        Args:
            queries: (B, Q, C) content.
            anchors: (B, Q, 4) normalised cxcywh.
            memory: what the queries attend to.
            bbox_embed: (B, Q, C) -> (B, Q, 4), change of the anchors before the sigmoid.
        Returns:
            The normed output of every layer, (L, B, Q, C), and the anchors that enter each layer,
            (L, B, Q, 4).
        """
        outputs, entering = [], []
        for index, layer in enumerate(self.layers):
            entering.append(anchors)
            # The loss of a layer trains the anchors it receives, but attention does not.
            anchors = anchors.detach() if index else anchors
            sine = sine_embedding(anchors, queries.shape[-1] // 2)
            position = self.ref_point_head(sine)
            here = self._modulated(sine, queries, anchors, scaled=index > 0)
            context = (here, memory.tokens, memory.position, memory.padding_mask)
            queries = run_layer(self.use_checkpoint, layer, queries, position, *context)
            outputs.append(queries)
            if index + 1 < len(self.layers):
                anchors = (bbox_embed(queries) + inverse_sigmoid(anchors)).sigmoid()
        return self.norm(torch.stack(outputs)), torch.stack(entering)

    def _modulated(self, sine: Tensor, queries: Tensor, anchors: Tensor, scaled: bool) -> Tensor:
        """Return the y and x part of the embedding, widened to the size of the anchor."""
        place = sine[..., : queries.shape[-1]]
        if scaled:
            place = place * self.query_scale(queries)
        reference = self.ref_anchor_head(queries).sigmoid()  # (B, Q, 2) width and height
        width, height = (reference / anchors[..., 2:]).split(1, dim=-1)
        y, x = place.chunk(2, dim=-1)
        return torch.cat((y * height, x * width), dim=-1)


@META_ARCH_REGISTRY.register()
class DABDETR(SingleScaleDETR):
    """DAB-DETR, optionally with several learned content patterns per anchor.

    Args:
        num_queries: number of anchors.
        num_patterns: contents that each anchor is combined with; 0: one of zeros.
        decoder: decoder that refines anchors.
        prior_prob: class probability that training starts from.
        options: those of `SingleScaleDETR`.
    """

    @configurable
    def __init__(
        self,
        *,
        num_queries: int,
        num_patterns: int,
        decoder: AnchorDecoder,
        prior_prob: float,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.decoder = decoder
        self.refpoint_embed = nn.Embedding(num_queries, 4)  # before the sigmoid
        self.patterns = nn.Embedding(num_patterns, options["channels"]) if num_patterns else None
        reset_xavier(decoder)
        reset_heads(self.class_embed, self.bbox_embed, prior_prob)
        self.freeze()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        detr = cfg.MODEL.DETR
        layers = conditional_layers(detr.DECODER_LAYERS, **layer_options(cfg))
        return {
            **super().from_config(cfg),
            "num_queries": detr.NUM_QUERIES,
            "num_patterns": cfg.MODEL.DAB_DETR.NUM_PATTERNS,
            "decoder": AnchorDecoder(layers, detr.CHANNELS, detr.USE_CHECKPOINT),
            "prior_prob": detr.PRIOR_PROB,
        }

    @classmethod
    def build_encoder(cls, cfg: CfgNode) -> TransformerEncoder:
        detr = cfg.MODEL.DETR
        return TransformerEncoder(
            TransformerEncoderLayer(**layer_options(cfg)),
            detr.ENCODER_LAYERS,
            position_scale=MLP(detr.CHANNELS, detr.CHANNELS, detr.CHANNELS, num_layers=2),
            use_checkpoint=detr.USE_CHECKPOINT,
        )

    def decode(self, memory: Memory) -> tuple[SetPredictions, Tensor]:
        queries, anchors = self._queries()
        batch = memory.tokens.shape[0]
        hidden, entering = self.decoder(
            queries.expand(batch, -1, -1), anchors.expand(batch, -1, -1), memory, self.bbox_embed
        )
        boxes = (self.bbox_embed(hidden) + inverse_sigmoid(entering)).sigmoid()
        return SetPredictions(self.class_embed(hidden), boxes), hidden[-1]

    def _queries(self) -> tuple[Tensor, Tensor]:
        """Return the content (Q, C) and the anchors (Q, 4), pattern by pattern."""
        anchors = self.refpoint_embed.weight.sigmoid()
        if self.patterns is None:
            return anchors.new_zeros(len(anchors), self.input_proj.out_channels), anchors
        content = self.patterns.weight.repeat_interleave(len(anchors), dim=0)
        return content, anchors.repeat(self.patterns.num_embeddings, 1)
