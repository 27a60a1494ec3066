"""Detectors with a plain transformer encoder on one feature map: DETR, Conditional and DAB-DETR.

Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv:2005.12872,
section 3.2.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
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
from d2ext.projects.detr.modeling.query_detector import QueryDetector, num_logits
from detectron2.config import CfgNode, configurable
from detectron2.structures import ImageList


@dataclass
class Memory:
    """What queries attend to.

    Attributes:
        tokens: (B, H * W, C), output of the encoder.
        position: (B, H * W, C), sine encoding of the pixels.
        padding_mask: (B, H * W) bool, True on padding; None where no image is padded.
    """

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
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.in_feature = in_feature
        width = self.backbone.output_shape()[in_feature].channels
        self.input_proj = nn.Conv2d(width, channels, kernel_size=1)
        self.position_encoding, self.encoder = position_encoding, encoder
        self.class_embed = nn.Linear(channels, num_logits)
        self.bbox_embed = MLP(channels, channels, 4, num_layers=3)
        reset_xavier(encoder)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        detr = cfg.MODEL.DETR
        return {
            **super().from_config(cfg),
            "in_feature": detr.IN_FEATURES[-1],
            "channels": detr.CHANNELS,
            "position_encoding": SinePositionEncoding(
                detr.CHANNELS, tuple(detr.POSITION.TEMPERATURE), detr.POSITION.HALF_PIXEL
            ),
            "encoder": cls.build_encoder(cfg),
            "num_logits": num_logits(cfg),
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

    @abstractmethod
    def decode(self, memory: Memory) -> SetPredictions:
        """Predict from the encoder's output."""

    def predict(self, images: ImageList, targets: SetTargets | None = None) -> list[SetPredictions]:
        features = self.backbone(images.tensor)
        return [self.decode(self.encode(features[self.in_feature], images))]

    def encode(self, feature: Tensor, images: ImageList) -> Memory:
        """Project the backbone's (B, D, H, W) feature map and run the encoder on its pixels."""
        mask = resize_mask(padding_mask(images), feature.shape[-2:])
        position = self.position_encoding(mask).to(self.input_proj.weight.dtype)
        position = position.flatten(2).transpose(1, 2)
        tokens = self.input_proj(feature).flatten(2).transpose(1, 2)
        padded = any(tuple(size) != images.tensor.shape[-2:] for size in images.image_sizes)
        padding = mask.flatten(1) if padded else None  # attention is faster without a mask
        return Memory(self.encoder(tokens, position, padding), position, padding)


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
