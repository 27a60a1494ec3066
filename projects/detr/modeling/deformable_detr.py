"""Deformable DETR: attention to few samples around reference points, on several feature levels.

Source: Zhu et al., "Deformable DETR: Deformable Transformers for End-to-End Object Detection",
2020, arXiv:2010.04159; iterative box refinement and two stages as in its appendix A.4.
"""

from typing import Any

from torch import Tensor, nn

from d2ext.errors import ConfigError
from d2ext.modeling.set_prediction import SetPredictions
from d2ext.modeling.transformer import sine_embedding
from d2ext.modeling.transformer.deformable_encoder import FlatLevels
from d2ext.projects.detr.modeling.deformable_detector import (
    DeformableDetector,
    Queries,
    reset_deformable,
)
from d2ext.projects.detr.modeling.two_stage import ProposalHead
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

FIRST_SIZE = -2.0  # logit of the width and height of the first boxes, about an eighth of the image


@META_ARCH_REGISTRY.register()
class DeformableDETR(DeformableDetector):
    """Deformable DETR with learned queries or, in two stages, with queries from proposals.

    Args:
        num_queries: number of queries, the most objects that an image can have.
        two_stage: the queries are the best proposals of the encoder's tokens, whose heads are the
            last ones.
        options: those of `DeformableDetector`.
    """

    @configurable
    def __init__(self, *, num_queries: int, two_stage: bool, **options: Any) -> None:
        super().__init__(**options)
        self.num_queries, self.two_stage = num_queries, two_stage
        channels = self.channels
        if two_stage:
            self.proposals = ProposalHead(channels)
            self.pos_trans = nn.Linear(2 * channels, 2 * channels)
            self.pos_trans_norm = nn.LayerNorm(2 * channels)
            reset_deformable(self.proposals)
            reset_deformable(self.pos_trans)
        else:
            self.query_embed = nn.Embedding(num_queries, 2 * channels)  # position, then content
            self.reference_points = nn.Linear(channels, 2)
            nn.init.xavier_uniform_(self.reference_points.weight)
            nn.init.zeros_(self.reference_points.bias)
            nn.init.constant_(self.bbox_embed[0].layers[-1].bias[2:], FIRST_SIZE)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        deformable = cfg.MODEL.DEFORMABLE_DETR
        if deformable.TWO_STAGE and not deformable.BOX_REFINEMENT:
            raise ConfigError(
                "MODEL.DEFORMABLE_DETR.TWO_STAGE refines the boxes of its proposals: set "
                "MODEL.DEFORMABLE_DETR.BOX_REFINEMENT to True as well."
            )
        options = super().from_config(cfg)
        return {
            **options,
            "num_queries": cfg.MODEL.DETR.NUM_QUERIES,
            "two_stage": deformable.TWO_STAGE,
            "num_heads": options["num_heads"] + deformable.TWO_STAGE,
        }

    def queries(self, memory: Tensor, levels: FlatLevels) -> Queries:
        if self.two_stage:
            return self._proposed(memory, levels)
        position, content = self.query_embed.weight.expand(memory.shape[0], -1, -1).chunk(2, dim=-1)
        return Queries(content, self.reference_points(position).sigmoid(), position)

    def _proposed(self, memory: Tensor, levels: FlatLevels) -> Queries:
        """Make the queries of the proposals with the highest objectness, which is class 0."""
        proposals = self.proposals(memory, levels, self.class_embed[-1], self.bbox_embed[-1])
        chosen, _ = proposals.top(proposals.logits[..., 0], self.num_queries)
        references = chosen.boxes.detach().sigmoid()
        # The published embedding is in the order x, y and not y, x.
        embedding = sine_embedding(references[..., [1, 0, 2, 3]], self.channels // 2)
        position, content = self.pos_trans_norm(self.pos_trans(embedding)).chunk(2, dim=-1)
        predictions = SetPredictions(
            proposals.logits[None], proposals.boxes.sigmoid()[None], "enc", class_agnostic=True
        )
        return Queries(content, references, position, [predictions])
