"""The base of detectors with deformable attention: Deformable DETR, DAB-Deformable-DETR and DINO.

Source: Zhu et al., "Deformable DETR: Deformable Transformers for End-to-End Object Detection",
2020, arXiv:2010.04159.
"""

from abc import abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from d2ext.errors import ConfigError
from d2ext.layers import MultiScaleDeformableAttention
from d2ext.modeling.meta_arch import padding_mask
from d2ext.modeling.set_prediction import SetPredictions, SetTargets
from d2ext.modeling.transformer import MLP, SinePositionEncoding
from d2ext.modeling.transformer.deformable_decoder import (
    DecoderStates,
    DeformableDecoder,
    DeformableDecoderLayer,
)
from d2ext.modeling.transformer.deformable_encoder import (
    DeformableEncoder,
    DeformableEncoderLayer,
    FlatLevels,
)
from d2ext.projects.detr.modeling.multi_scale import MultiScaleLevels
from d2ext.projects.detr.modeling.query_detector import QueryDetector, num_logits, prior_bias
from d2ext.projects.detr.modeling.single_scale import reset_xavier
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import ImageList


@dataclass(frozen=True)
class Queries:
    """What enters the decoder.

    Attributes:
        content: (B, Q, channels).
        references: (B, Q, 2) points or (B, Q, 4) boxes, normalised.
        position: (B, Q, channels); None where the decoder computes it from the references.
        proposals: predictions of the encoder's tokens, which have losses of their own.
    """

    content: Tensor
    references: Tensor
    position: Tensor | None = None
    proposals: list[SetPredictions] = field(default_factory=list)


class DeformableDetector(QueryDetector):
    """Backbone, feature levels, deformable encoder and decoder, and heads on decoder outputs.

    A subclass implements `queries`.

    Args:
        in_features: the backbone's feature maps that are used, finest first.
        levels: makes the tokens of all levels from them.
        encoder: deformable encoder.
        decoder: deformable decoder.
        num_logits: width of the class heads.
        num_heads: heads of each kind: one per decoder layer and, where proposals use the last
            one, one more.
        share_heads: all layers have the same heads.
        refine_boxes: each decoder layer refines the references.
        prior_prob: class probability that training starts from.
        options: those of `QueryDetector`.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        levels: MultiScaleLevels,
        encoder: DeformableEncoder,
        decoder: DeformableDecoder,
        num_logits: int,
        num_heads: int,
        share_heads: bool,
        refine_boxes: bool,
        prior_prob: float,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.in_features, self.refine_boxes = tuple(in_features), refine_boxes
        self.levels, self.encoder, self.decoder = levels, encoder, decoder
        class_head = nn.Linear(self.channels, num_logits)
        nn.init.constant_(class_head.bias, prior_bias(prior_prob))
        self.class_embed = copies(class_head, num_heads, share_heads)
        self.bbox_embed = copies(box_head(self.channels), num_heads, share_heads)
        reset_deformable(encoder)
        reset_deformable(decoder)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        detr, deformable = cfg.MODEL.DETR, cfg.MODEL.DEFORMABLE_DETR
        if detr.PANOPTIC.ENABLED:
            raise ConfigError(
                f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} has no mask head, which "
                "MODEL.DETR.PANOPTIC.ENABLED asks for: take DETR, ConditionalDETR or DABDETR."
            )
        options = super().from_config(cfg)
        return {
            **options,
            "in_features": detr.IN_FEATURES,
            "levels": build_levels(cfg, options["backbone"].output_shape()),
            "encoder": build_encoder(cfg),
            "decoder": cls.build_decoder(cfg),
            "num_logits": num_logits(cfg),
            "num_heads": detr.DECODER_LAYERS,
            "share_heads": not deformable.BOX_REFINEMENT,
            "refine_boxes": deformable.BOX_REFINEMENT,
            "prior_prob": detr.PRIOR_PROB,
        }

    @classmethod
    def build_decoder(cls, cfg: CfgNode) -> DeformableDecoder:
        """Build the decoder that the config describes."""
        detr = cfg.MODEL.DETR
        layer = DeformableDecoderLayer(*layer_options(cfg, decoder=True))
        return DeformableDecoder(layer, detr.DECODER_LAYERS, use_checkpoint=detr.USE_CHECKPOINT)

    @property
    def channels(self) -> int:
        """Width of the transformer."""
        return self.levels.level_embed.shape[1]

    @abstractmethod
    def queries(self, memory: Tensor, levels: FlatLevels) -> Queries:
        """Make the queries.

        Args:
            memory: (B, S, channels), output of the encoder.
            levels: shapes and padding of the memory.
        """

    def predict(self, images: ImageList, targets: SetTargets | None = None) -> list[SetPredictions]:
        levels = self.flat_levels(images)
        memory = self.encoder(levels)
        queries = self.queries(memory, levels)
        return [self.apply_heads(self.decode(queries, memory, levels)), *queries.proposals]

    def flat_levels(self, images: ImageList) -> FlatLevels:
        """Return the tokens of all levels of a batch."""
        features = self.backbone(images.tensor)
        return self.levels([features[name] for name in self.in_features], self.mask(images))

    def mask(self, images: ImageList) -> Tensor:
        """Return the padding mask that the transformer sees, (B, H, W) bool."""
        return padding_mask(images)

    def decode(
        self,
        queries: Queries,
        memory: Tensor,
        levels: FlatLevels,
        attention_mask: Tensor | None = None,
    ) -> DecoderStates:
        """Run the decoder."""
        return self.decoder(
            queries.content,
            queries.references,
            memory,
            levels,
            query_position=queries.position,
            attention_mask=attention_mask,
            box_heads=self.bbox_embed if self.refine_boxes else None,
        )

    def apply_heads(self, states: DecoderStates) -> SetPredictions:
        """Predict from the output of each decoder layer and the references that entered it."""
        logits, boxes = [], []
        for index, output in enumerate(states.outputs):
            logits.append(self.class_embed[index](output))
            boxes.append((self.bbox_embed[index](output) + states.box_logits[index]).sigmoid())
        return SetPredictions(torch.stack(logits), torch.stack(boxes))


def box_head(channels: int) -> MLP:
    """Build a box head whose output starts at zero."""
    head = MLP(channels, channels, 4, num_layers=3)
    nn.init.zeros_(head.layers[-1].weight)
    nn.init.zeros_(head.layers[-1].bias)
    return head


def copies(head: nn.Module, count: int, share: bool) -> nn.ModuleList:
    """Return `count` heads with the same initial weights, or one head `count` times."""
    return nn.ModuleList(head if share else deepcopy(head) for _ in range(count))


def reset_deformable(module: nn.Module) -> None:
    """Initialise matrices by Xavier's rule, and deformable attention by its own, as published."""
    reset_xavier(module)
    for part in module.modules():
        if isinstance(part, MultiScaleDeformableAttention):
            part.reset_parameters()


def build_levels(cfg: CfgNode, shapes: dict[str, ShapeSpec]) -> MultiScaleLevels:
    """Build the feature levels on a backbone's maps.

    Raises:
        ConfigError: the backbone lacks a map, or there are fewer levels than maps.
    """
    detr, num_levels = cfg.MODEL.DETR, cfg.MODEL.DEFORMABLE_DETR.NUM_LEVELS
    missing = [name for name in detr.IN_FEATURES if name not in shapes]
    if missing:
        raise ConfigError(
            f"MODEL.DETR.IN_FEATURES: the backbone has no feature map {missing[0]!r}. "
            f"It has {', '.join(shapes)}."
        )
    if num_levels < len(detr.IN_FEATURES):
        raise ConfigError(
            f"MODEL.DEFORMABLE_DETR.NUM_LEVELS is {num_levels}, but MODEL.DETR.IN_FEATURES has "
            f"{len(detr.IN_FEATURES)} feature maps, and each is a level."
        )
    position = detr.POSITION
    return MultiScaleLevels(
        [shapes[name].channels for name in detr.IN_FEATURES],
        detr.CHANNELS,
        num_levels,
        SinePositionEncoding(detr.CHANNELS, tuple(position.TEMPERATURE), position.HALF_PIXEL),
    )


def build_encoder(cfg: CfgNode) -> DeformableEncoder:
    """Build the encoder that the config describes."""
    detr = cfg.MODEL.DETR
    layer = DeformableEncoderLayer(*layer_options(cfg, decoder=False))
    return DeformableEncoder(layer, detr.ENCODER_LAYERS, detr.USE_CHECKPOINT)


def layer_options(cfg: CfgNode, decoder: bool) -> tuple[int, int, int, int, int, float]:
    """Return width, heads, hidden width, levels, points and dropout of deformable layers."""
    detr, deformable = cfg.MODEL.DETR, cfg.MODEL.DEFORMABLE_DETR
    return (
        detr.CHANNELS,
        detr.NUM_HEADS,
        detr.FEEDFORWARD,
        deformable.NUM_LEVELS,
        deformable.DECODER_POINTS if decoder else deformable.ENCODER_POINTS,
        detr.DROPOUT,
    )
