"""Conditional DETR: cross-attention by the position of a reference point of each query.

Source: Meng et al., "Conditional DETR for Fast Training Convergence", 2021, arXiv:2108.06152.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2ext.modeling.set_prediction import SetPredictions
from d2ext.modeling.transformer import MLP, inverse_sigmoid, run_layer, sine_embedding
from d2ext.projects.detr.modeling.conditional_layer import conditional_layers
from d2ext.projects.detr.modeling.query_detector import prior_bias
from d2ext.projects.detr.modeling.single_scale import (
    Memory,
    SingleScaleDETR,
    layer_options,
    reset_xavier,
)
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY


class ConditionalDecoder(nn.Module):
    """Decoder layers, and the reference points of the queries.

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
        self.ref_point_head = MLP(channels, channels, 2, num_layers=2)

    def forward(self, query_position: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Run the layers.

        Args:
            query_position: (B, Q, C).
            memory: what the queries attend to.
        Returns:
            The normed output of every layer, (L, B, Q, C), and the reference points, (B, Q, 2)
            x and y, normalised.
        """
        points = self.ref_point_head(query_position).sigmoid()
        sine = sine_embedding(points, query_position.shape[-1] // 2)
        queries, outputs = torch.zeros_like(query_position), []
        for index, layer in enumerate(self.layers):
            here = sine * self.query_scale(queries) if index else sine
            context = (here, memory.tokens, memory.position, memory.padding_mask)
            queries = run_layer(self.use_checkpoint, layer, queries, query_position, *context)
            outputs.append(queries)
        return self.norm(torch.stack(outputs)), points


@META_ARCH_REGISTRY.register()
class ConditionalDETR(SingleScaleDETR):
    """Conditional DETR: boxes are predicted relative to a fixed reference point per query.

    Args:
        num_queries: number of queries, the most objects that an image can have.
        decoder: decoder with reference points.
        prior_prob: class probability that training starts from.
        options: those of `SingleScaleDETR`.
    """

    @configurable
    def __init__(
        self, *, num_queries: int, decoder: ConditionalDecoder, prior_prob: float, **options: Any
    ) -> None:
        super().__init__(**options)
        self.decoder = decoder
        self.query_embed = nn.Embedding(num_queries, options["channels"])
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
            "decoder": ConditionalDecoder(layers, detr.CHANNELS, detr.USE_CHECKPOINT),
            "prior_prob": detr.PRIOR_PROB,
        }

    def decode(self, memory: Memory) -> tuple[SetPredictions, Tensor]:
        position = self.query_embed.weight.expand(memory.tokens.shape[0], -1, -1)
        hidden, points = self.decoder(position, memory)
        offsets = F.pad(inverse_sigmoid(points), (0, 2))  # width and height start at nothing
        boxes = (self.bbox_embed(hidden) + offsets).sigmoid()
        return SetPredictions(self.class_embed(hidden), boxes), hidden[-1]


def reset_heads(class_embed: nn.Linear, bbox_embed: MLP, prior_prob: float) -> None:
    """Initialise heads: every class starts at `prior_prob`, boxes at their references."""
    nn.init.constant_(class_embed.bias, prior_bias(prior_prob))
    for parameter in bbox_embed.layers[-1].parameters():
        nn.init.zeros_(parameter)
