"""Detectors with a plain transformer encoder on one feature map: DETR, Conditional and DAB-DETR.

Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv:2005.12872,
section 3.2.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2ext.modeling.meta_arch import padding_mask
from d2ext.modeling.set_prediction import SetPredictions, SetTargets
from d2ext.modeling.transformer import (
    MLP,
    SinePositionEncoding,
    TransformerEncoder,
    TransformerEncoderLayer,
    resize_mask,
)
from d2ext.projects.detr.modeling.panoptic import FoundMasks, PanopticMerger
from d2ext.projects.detr.modeling.query_detector import QueryDetector, num_logits
from d2ext.projects.detr.modeling.segmentation import MaskHead, binary_masks
from detectron2.config import CfgNode, configurable
from detectron2.modeling import Backbone
from detectron2.structures import ImageList, Instances


@dataclass
class Memory:
    """What queries attend to.

    Attributes:
        feature: (B, C, H, W), the projected feature map.
        tokens: (B, H * W, C), output of the encoder.
        position: (B, H * W, C), sine encoding of the pixels.
        padding_mask: (B, H * W) bool, True on padding; None where no image is padded.
    """

    feature: Tensor
    tokens: Tensor
    position: Tensor
    padding_mask: Tensor | None


class SingleScaleDETR(QueryDetector):
    """Backbone, projection, transformer encoder, and the heads on decoder outputs.

    A subclass implements `decode`.

    Args:
        in_feature: the backbone's feature map that is used.
        channels: width of the transformer.
        position_encoding: of the pixels of the feature map.
        encoder: transformer encoder.
        num_logits: width of the class head.
        mask_head: predicts masks; None: the model predicts boxes alone.
        mask_features: finer maps of the backbone for the mask head, the coarsest first.
        mask_thresh: least probability of a pixel of a mask.
        freeze_detector: only the mask head learns.
        panoptic: the classes are things and stuff, whose masks it merges; None: all are objects.
        options: those of `QueryDetector`.
    """

    @configurable
    def __init__(
        self,
        *,
        in_feature: str,
        channels: int,
        position_encoding: SinePositionEncoding,
        encoder: TransformerEncoder,
        num_logits: int,
        mask_head: MaskHead | None = None,
        mask_features: Sequence[str] = (),
        mask_thresh: float = 0.5,
        freeze_detector: bool = False,
        panoptic: PanopticMerger | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.in_feature, self.freeze_detector = in_feature, freeze_detector
        self.mask_features, self.mask_thresh = tuple(mask_features), mask_thresh
        width = self.backbone.output_shape()[in_feature].channels
        self.input_proj = nn.Conv2d(width, channels, kernel_size=1)
        self.position_encoding, self.encoder = position_encoding, encoder
        self.class_embed = nn.Linear(channels, num_logits)
        self.bbox_embed = MLP(channels, channels, 4, num_layers=3)
        self.mask_head, self.panoptic = mask_head, panoptic
        reset_xavier(encoder)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        detr = cfg.MODEL.DETR
        options = super().from_config(cfg)
        return {
            **options,
            "in_feature": detr.IN_FEATURES[-1],
            "channels": detr.CHANNELS,
            "position_encoding": SinePositionEncoding(
                detr.CHANNELS, tuple(detr.POSITION.TEMPERATURE), detr.POSITION.HALF_PIXEL
            ),
            "encoder": cls.build_encoder(cfg),
            "num_logits": num_logits(cfg),
            **(_mask_options(cfg, options["backbone"]) if cfg.MODEL.MASK_ON else {}),
            "panoptic": _build_merger(cfg) if detr.PANOPTIC.ENABLED else None,
        }

    @classmethod
    def build_encoder(cls, cfg: CfgNode) -> TransformerEncoder:
        """Build the encoder that the config describes."""
        detr = cfg.MODEL.DETR
        layer = TransformerEncoderLayer(**layer_options(cfg), pre_norm=detr.PRE_NORM)
        norm = nn.LayerNorm(detr.CHANNELS) if detr.PRE_NORM else None
        return TransformerEncoder(
            layer, detr.ENCODER_LAYERS, norm, use_checkpoint=detr.USE_CHECKPOINT
        )

    @property
    def masks_on(self) -> bool:
        return self.mask_head is not None

    def freeze(self) -> None:
        """Freeze all but the mask head if the config asks; called when all parts are built."""
        if self.freeze_detector:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(name.startswith("mask_head."))

    @abstractmethod
    def decode(self, memory: Memory) -> tuple[SetPredictions, Tensor]:
        """Predict from the encoder's output; also return the last decoder output, (B, Q, C)."""

    def predict(self, images: ImageList, targets: SetTargets | None = None) -> list[SetPredictions]:
        features = self.backbone(images.tensor)
        memory = self.encode(features[self.in_feature], images)
        found, hidden = self.decode(memory)
        if self.mask_head is not None:
            finer = [features[name] for name in self.mask_features]
            found.masks = self.mask_head(
                hidden, memory.feature, memory.tokens, memory.padding_mask, finer
            )
        return [found]

    def encode(self, feature: Tensor, images: ImageList) -> Memory:
        """Project the backbone's (B, D, H, W) feature map and run the encoder on its pixels."""
        mask = resize_mask(padding_mask(images), feature.shape[-2:])
        position = self.position_encoding(mask).to(self.input_proj.weight.dtype)
        position = position.flatten(2).transpose(1, 2)
        feature = self.input_proj(feature)
        padded = any(tuple(size) != images.tensor.shape[-2:] for size in images.image_sizes)
        padding = mask.flatten(1) if padded else None  # attention is faster without a mask
        tokens = self.encoder(feature.flatten(2).transpose(1, 2), position, padding)
        return Memory(feature, tokens, position, padding)

    def detect(self, images: ImageList) -> list[Instances] | list[FoundMasks]:
        found = self.predict(images)[0]
        instances = self.instances(found.logits[-1], found.boxes[-1], images.image_sizes)
        if found.masks is None:
            return instances
        padded = images.tensor.shape[-2], images.tensor.shape[-1]
        for own, queries in zip(instances, self.select(found.logits[-1]).queries, strict=True):
            own.query = queries
        triples = zip(instances, found.logits[-1], found.masks, strict=True)
        return [FoundMasks(*triple, padded) for triple in triples]

    def postprocess(self, found: Instances | FoundMasks, height: int, width: int) -> dict[str, Any]:
        """Return "instances" and, of panoptic models with a mask head, "panoptic_seg"."""
        boxes = found if isinstance(found, Instances) else found.instances
        output: dict[str, Any] = super().postprocess(boxes, height, width)
        if self.panoptic is not None:
            output["instances"] = self.panoptic.select_things(output["instances"])
        if isinstance(found, FoundMasks):
            self._add_masks(output["instances"], found)
            if self.panoptic is not None:
                output["panoptic_seg"] = self.panoptic(found, (height, width))
        return output

    def _add_masks(self, instances: Instances, found: FoundMasks) -> None:
        """Add masks of the size of the output, resized by nearest neighbour, as published."""
        masks = binary_masks(found.resized(instances.query), self.mask_thresh)
        resized = F.interpolate(masks[:, None].to(torch.uint8), instances.image_size)
        instances.pred_masks = resized[:, 0].bool()
        instances.remove("query")


def _mask_options(cfg: CfgNode, backbone: Backbone) -> dict[str, Any]:
    options, shapes = cfg.MODEL.DETR.MASK_HEAD, backbone.output_shape()
    finer = [shapes[name].channels for name in options.IN_FEATURES]
    return {
        "mask_head": MaskHead(cfg.MODEL.DETR.CHANNELS, cfg.MODEL.DETR.NUM_HEADS, finer),
        "mask_features": options.IN_FEATURES,
        "mask_thresh": options.THRESH_TEST,
        "freeze_detector": options.FREEZE_DETECTOR,
    }


def _build_merger(cfg: CfgNode) -> PanopticMerger:
    options, loss = cfg.MODEL.DETR.PANOPTIC, cfg.MODEL.DETR.LOSS
    return PanopticMerger(
        frozenset(options.THING_IDS), options.OBJECT_THRESH, loss.CLASSIFICATION == "softmax"
    )


def layer_options(cfg: CfgNode) -> dict[str, Any]:
    """Return the options that all transformer layers take from `MODEL.DETR`."""
    names = ("channels", "num_heads", "feedforward", "dropout", "activation")
    return {name: cfg.MODEL.DETR[name.upper()] for name in names}


@torch.no_grad()
def reset_xavier(module: nn.Module) -> None:
    """Initialise all matrices of a transformer by Xavier's uniform rule, as published."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
