"""DINO: anchors from the encoder, contrastive denoising, boxes that look forward twice.

Source: Zhang et al., "DINO: DETR with Improved DeNoising Anchor Boxes for End-to-End Object
Detection", 2022, arXiv:2203.03605.
"""

from typing import Any

import torch
from torch import Tensor, nn

from d2ext.modeling.set_prediction import SetPredictions, SetTargets
from d2ext.modeling.transformer import inverse_sigmoid
from d2ext.modeling.transformer.deformable_decoder import (
    AnchorPosition,
    DeformableDecoder,
    DeformableDecoderLayer,
)
from d2ext.modeling.transformer.deformable_encoder import FlatLevels
from d2ext.projects.detr.modeling.deformable_detector import (
    DeformableDetector,
    Queries,
    box_head,
    layer_options,
    reset_deformable,
)
from d2ext.projects.detr.modeling.denoising import (
    ContrastiveDenoising,
    DenoisingGroups,
    NoiseDraws,
)
from d2ext.projects.detr.modeling.query_detector import prior_bias
from d2ext.projects.detr.modeling.two_stage import ProposalHead
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList

EPS = 1e-3  # of the inverse sigmoid, as published


@META_ARCH_REGISTRY.register()
class DINO(DeformableDetector):
    """DINO: learned contents at the best anchors of the encoder, and noised objects in training.

    Args:
        num_queries: number of matching queries, the most objects that an image can have.
        num_classes: number of classes.
        denoising: makes the noised objects.
        mask_padding_test: the transformer knows the padding of a batch in evaluation too.
        options: those of `DeformableDetector`.
    """

    @configurable
    def __init__(
        self,
        *,
        num_queries: int,
        num_classes: int,
        denoising: ContrastiveDenoising,
        mask_padding_test: bool,
        prior_prob: float,
        **options: Any,
    ) -> None:
        super().__init__(prior_prob=prior_prob, **options)
        self.num_queries, self.denoising = num_queries, denoising
        self.mask_padding_test = mask_padding_test
        self.tgt_embed = nn.Embedding(num_queries, self.channels)
        nn.init.xavier_uniform_(self.tgt_embed.weight)
        # Published weights have one row more than classes, which nobody reads.
        self.label_enc = nn.Embedding(num_classes + 1, self.channels)
        self.proposals = ProposalHead(self.channels)
        reset_deformable(self.proposals)
        self.enc_out_class_embed = nn.Linear(self.channels, num_classes)
        nn.init.constant_(self.enc_out_class_embed.bias, prior_bias(prior_prob))
        self.enc_out_bbox_embed = box_head(self.channels)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        detr, dino = cfg.MODEL.DETR, cfg.MODEL.DINO
        noise = dino.DENOISING
        return {
            **super().from_config(cfg),
            "share_heads": dino.SHARE_HEADS,
            "refine_boxes": True,
            "num_queries": detr.NUM_QUERIES,
            "num_classes": detr.NUM_CLASSES,
            "denoising": ContrastiveDenoising(
                detr.NUM_CLASSES, noise.NUM_QUERIES, noise.LABEL_NOISE, noise.BOX_NOISE
            ),
            "mask_padding_test": dino.MASK_PADDING_TEST,
        }

    @classmethod
    def build_decoder(cls, cfg: CfgNode) -> DeformableDecoder:
        detr = cfg.MODEL.DETR
        return DeformableDecoder(
            DeformableDecoderLayer(*layer_options(cfg, decoder=True)),
            detr.DECODER_LAYERS,
            anchor_position=AnchorPosition(detr.CHANNELS, scaled=False),
            norm=nn.LayerNorm(detr.CHANNELS),
            look_forward_twice=True,
            eps=EPS,
            use_checkpoint=detr.USE_CHECKPOINT,
        )

    def predict(
        self,
        images: ImageList,
        targets: SetTargets | None = None,
        draws: NoiseDraws | None = None,
    ) -> list[SetPredictions]:
        """Predict as `QueryDetector.predict`.

        Args:
            images: a normalised and padded batch.
            targets: the objects to denoise; None: no denoising.
            draws: random numbers of the noise; None draws new ones.
        """
        if targets is None:
            return super().predict(images)
        levels = self.flat_levels(images)
        memory = self.encoder(levels)
        groups = self.denoising(targets, draws)
        queries = self.queries(memory, levels)
        mask = groups.attention_mask(queries.content.shape[1])
        queries = self._with_noised(groups, queries)
        found = self.apply_heads(self.decode(queries, memory, levels, mask))
        return [*_split(found, groups, targets), *queries.proposals]

    def mask(self, images: ImageList) -> Tensor:
        mask = super().mask(images)
        return mask if self.training or self.mask_padding_test else torch.zeros_like(mask)

    def queries(self, memory: Tensor, levels: FlatLevels) -> Queries:
        """Make queries of learned contents and the boxes of the best scored tokens."""
        heads = self.enc_out_class_embed, self.enc_out_bbox_embed
        proposals = self.proposals(memory, levels, *heads)
        chosen, _ = proposals.top(proposals.logits.amax(-1), self.num_queries)
        boxes = chosen.boxes.sigmoid()
        content = self.tgt_embed.weight[: boxes.shape[1]].expand(memory.shape[0], -1, -1)
        predictions = SetPredictions(chosen.logits[None], boxes[None], "interm")
        return Queries(content, boxes.detach(), proposals=[predictions])

    def _with_noised(self, groups: DenoisingGroups, queries: Queries) -> Queries:
        """Put the noised objects before the matching queries."""
        padding = (groups.classes < 0)[..., None]
        content = self.label_enc(groups.classes.clamp(min=0)).masked_fill(padding, 0)
        # Of padding the published code sets the logits to zero, which is the middle of the image.
        anchors = inverse_sigmoid(groups.boxes, EPS).masked_fill(padding, 0).sigmoid()
        return Queries(
            torch.cat((content, queries.content), 1),
            torch.cat((anchors, queries.references), 1),
            proposals=queries.proposals,
        )


def _split(
    found: SetPredictions, groups: DenoisingGroups, targets: SetTargets
) -> tuple[SetPredictions, SetPredictions]:
    """Return the predictions of the matching queries and those of the noised objects."""
    slots = groups.classes.shape[1]
    noised = SetPredictions(
        found.logits[:, :, :slots],
        found.boxes[:, :, :slots],
        "dn",
        matches=groups.matches(targets, len(found.logits)),
        repeats=max(1, groups.groups),
    )
    return SetPredictions(found.logits[:, :, slots:], found.boxes[:, :, slots:]), noised
