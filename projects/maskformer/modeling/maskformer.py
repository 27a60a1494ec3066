"""MaskFormer: semantic and panoptic segmentation by classification of masks.

Source: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation",
2021, arXiv:2107.06278.
"""

from typing import Any

from torch import nn

from d2ext.modeling.transformer import (
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from d2ext.projects.maskformer.modeling.criterion import DenseMaskCriterion
from d2ext.projects.maskformer.modeling.mask_classifier import (
    MaskClassifier,
    feature_channels,
    loss_weights,
    num_classes,
)
from d2ext.projects.maskformer.modeling.matcher import DenseMaskMatcher
from d2ext.projects.maskformer.modeling.pixel_decoder import PixelDecoder
from d2ext.projects.maskformer.modeling.predictor import TransformerPredictor
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY


@META_ARCH_REGISTRY.register()
class MaskFormer(MaskClassifier):
    """A pixel decoder, plain or with a transformer encoder, and DETR's decoder."""

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        options = super().from_config(cfg)
        loss = cfg.MODEL.MASK_FORMER.LOSS
        matcher = DenseMaskMatcher(**loss_weights(cfg))
        channels = feature_channels(cfg, options["backbone"])
        return {
            **options,
            "pixel_decoder": build_pixel_decoder(cfg, channels),
            "predictor": TransformerPredictor(
                num_classes(cfg),
                **query_options(cfg, channels[-1], cfg.MODEL.MASK_FORMER.NUM_QUERIES),
            ),
            "criterion": DenseMaskCriterion(matcher, loss.NO_OBJECT_WEIGHT),
        }


def build_pixel_decoder(cfg: CfgNode, in_channels: list[int]) -> PixelDecoder:
    """Build the plain pixel decoder, or that with an encoder if the config has its layers."""
    model, pixel = cfg.MODEL.MASK_FORMER, cfg.MODEL.MASK_FORMER.PIXEL_DECODER
    encoder = None
    if pixel.ENCODER_LAYERS:
        layer = TransformerEncoderLayer(
            model.CHANNELS,
            model.NUM_HEADS,
            pixel.ENCODER_FEEDFORWARD,
            model.DROPOUT,
            pre_norm=model.PRE_NORM,
        )
        norm = nn.LayerNorm(model.CHANNELS) if model.PRE_NORM else None
        encoder = TransformerEncoder(layer, pixel.ENCODER_LAYERS, norm)
    return PixelDecoder(in_channels, model.CHANNELS, pixel.NORM, encoder)


def query_options(cfg: CfgNode, memory_channels: int, num_queries: int) -> dict[str, Any]:
    """Return the options of `QueryMasks`; an encoder's output needs no projection."""
    model = cfg.MODEL.MASK_FORMER
    layer = TransformerDecoderLayer(
        model.CHANNELS, model.NUM_HEADS, model.FEEDFORWARD, model.DROPOUT, pre_norm=model.PRE_NORM
    )
    return {
        "channels": model.CHANNELS,
        "num_queries": num_queries,
        "decoder": TransformerDecoder(layer, model.DECODER_LAYERS, nn.LayerNorm(model.CHANNELS)),
        "memory_channels": None if model.PIXEL_DECODER.ENCODER_LAYERS else memory_channels,
    }
