"""Mask2Former: one architecture for semantic, instance and panoptic segmentation.

Source: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", 2022,
arXiv:2112.01527.
"""

from typing import Any

from d2ext.modeling.transformer.deformable_encoder import DeformableEncoder, DeformableEncoderLayer
from d2ext.projects.maskformer.modeling.criterion import PointMaskCriterion
from d2ext.projects.maskformer.modeling.deformable_pixel_decoder import DeformablePixelDecoder
from d2ext.projects.maskformer.modeling.mask_classifier import (
    MaskClassifier,
    feature_channels,
    loss_weights,
    num_classes,
)
from d2ext.projects.maskformer.modeling.masked_decoder import MaskedTransformerDecoder
from d2ext.projects.maskformer.modeling.matcher import PointMaskMatcher
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY


@META_ARCH_REGISTRY.register()
class Mask2Former(MaskClassifier):
    """A pixel decoder with deformable attention, masked cross-attention, losses at points."""

    segments_inside_masks = True

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        options = super().from_config(cfg)
        model, loss = cfg.MODEL.MASK_FORMER, cfg.MODEL.MASK_FORMER.LOSS
        matcher = PointMaskMatcher(**loss_weights(cfg), num_points=loss.NUM_POINTS)
        channels = feature_channels(cfg, options["backbone"])
        return {
            **options,
            "pixel_decoder": build_deformable_pixel_decoder(cfg, channels),
            "predictor": MaskedTransformerDecoder(
                num_classes(cfg),
                model.CHANNELS,
                model.NUM_QUERIES,
                model.PIXEL_DECODER.ENCODER_LEVELS,
                model.DECODER_LAYERS,
                model.NUM_HEADS,
                model.FEEDFORWARD,
                model.DROPOUT,
            ),
            "criterion": PointMaskCriterion(
                matcher,
                loss.NO_OBJECT_WEIGHT,
                loss.NUM_POINTS,
                loss.OVERSAMPLE_RATIO,
                loss.IMPORTANCE_RATIO,
            ),
        }


def build_deformable_pixel_decoder(cfg: CfgNode, in_channels: list[int]) -> DeformablePixelDecoder:
    """Build the pixel decoder that the config describes."""
    model, pixel = cfg.MODEL.MASK_FORMER, cfg.MODEL.MASK_FORMER.PIXEL_DECODER
    layer = DeformableEncoderLayer(
        model.CHANNELS,
        model.NUM_HEADS,
        pixel.ENCODER_FEEDFORWARD,
        pixel.ENCODER_LEVELS,
        pixel.ENCODER_POINTS,
        model.DROPOUT,
    )
    return DeformablePixelDecoder(
        in_channels,
        model.CHANNELS,
        pixel.NORM,
        DeformableEncoder(layer, pixel.ENCODER_LAYERS),
        pixel.ENCODER_LEVELS,
    )
