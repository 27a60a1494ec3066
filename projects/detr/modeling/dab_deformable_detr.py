"""DAB-Deformable-DETR: Deformable DETR whose queries are learned anchor boxes.

Source: Liu et al., "DAB-DETR: Dynamic Anchor Boxes are Better Queries for DETR", 2022,
arXiv:2201.12329, section 5 and https://github.com/IDEA-Research/DAB-DETR.
"""

from typing import Any

from torch import Tensor, nn

from d2ext.modeling.transformer.deformable_decoder import (
    AnchorPosition,
    DeformableDecoder,
    DeformableDecoderLayer,
)
from d2ext.modeling.transformer.deformable_encoder import FlatLevels
from d2ext.projects.detr.modeling.deformable_detector import (
    DeformableDetector,
    Queries,
    layer_options,
)
from d2ext.projects.detr.modeling.deformable_detr import FIRST_SIZE
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

EPS = 1e-3  # of the inverse sigmoid, as published


@META_ARCH_REGISTRY.register()
class DABDeformableDETR(DeformableDetector):
    """Deformable DETR with an anchor box and a content per query, and optionally patterns.

    Args:
        num_queries: number of anchors.
        num_patterns: contents that are added to that of each anchor; 0: none.
        options: those of `DeformableDetector`.
    """

    @configurable
    def __init__(self, *, num_queries: int, num_patterns: int, **options: Any) -> None:
        super().__init__(**options)
        self.tgt_embed = nn.Embedding(num_queries, self.channels)
        self.refpoint_embed = nn.Embedding(num_queries, 4)  # before the sigmoid
        self.patterns_embed = nn.Embedding(num_patterns, self.channels) if num_patterns else None
        nn.init.constant_(self.bbox_embed[0].layers[-1].bias[2:], FIRST_SIZE)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            **super().from_config(cfg),
            "num_queries": cfg.MODEL.DETR.NUM_QUERIES,
            "num_patterns": cfg.MODEL.DAB_DETR.NUM_PATTERNS,
        }

    @classmethod
    def build_decoder(cls, cfg: CfgNode) -> DeformableDecoder:
        detr = cfg.MODEL.DETR
        return DeformableDecoder(
            DeformableDecoderLayer(*layer_options(cfg, decoder=True)),
            detr.DECODER_LAYERS,
            anchor_position=AnchorPosition(detr.CHANNELS, scaled=True),
            eps=EPS,
            use_checkpoint=detr.USE_CHECKPOINT,
        )

    def queries(self, memory: Tensor, levels: FlatLevels) -> Queries:
        content, anchors = self.tgt_embed.weight, self.refpoint_embed.weight.sigmoid()
        if self.patterns_embed is not None:
            patterns = self.patterns_embed.weight[:, None]  # pattern by pattern, all anchors each
            content = (content + patterns).flatten(0, 1)
            anchors = anchors.repeat(len(patterns), 1)
        batch = memory.shape[0]
        return Queries(content.expand(batch, -1, -1), anchors.expand(batch, -1, -1))
