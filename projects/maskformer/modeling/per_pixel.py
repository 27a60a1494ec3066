"""The per-pixel baselines of MaskFormer: the same modules, classifying each pixel.

Source: Cheng et al., "MaskFormer", 2021, arXiv:2107.06278, section 4.1 ("Baselines").
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from d2ext.errors import ConfigError
from d2ext.modeling.losses.per_pixel import hard_pixel_cross_entropy
from d2ext.modeling.meta_arch import Detector
from d2ext.projects.maskformer.modeling.mask_classifier import feature_channels
from d2ext.projects.maskformer.modeling.maskformer import build_pixel_decoder, query_options
from d2ext.projects.maskformer.modeling.pixel_decoder import PixelDecoder, PixelFeatures
from d2ext.projects.maskformer.modeling.predictor import QueryMasks
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import ImageList

HARD_FRACTION = {"hard_pixel_mining": 0.2, "cross_entropy": 1.0}


@dataclass
class FoundScores:
    """Class logits (K, H, W) of a padded image, and the size of the image in it."""

    scores: Tensor
    image_size: tuple[int, int]


class PerPixelModel(Detector):
    """Base of the baselines: a pixel decoder, class logits per pixel, cross-entropy.

    A subclass implements `classify`.

    Args:
        pixel_decoder: maps a list of feature maps, finest first, to `PixelFeatures`.
        in_features: feature maps of the backbone that are used, finest first.
        stride: of the finest of them, in pixels.
        size_divisibility: images are padded to multiples of it, in pixels.
        deep_supervision: losses of every decoder layer, where there are several.
        ignore_value: label of pixels without a class.
        hard_fraction: part of the pixels, those of the largest loss, that are learnt from.
        loss_weight: factor of the losses.
        options: those of `Detector`.
    """

    dataset_mapper = "maskformer"

    @configurable
    def __init__(
        self,
        *,
        pixel_decoder: PixelDecoder,
        in_features: list[str],
        stride: int,
        size_divisibility: int,
        deep_supervision: bool,
        ignore_value: int,
        hard_fraction: float,
        loss_weight: float,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.pixel_decoder, self.in_features = pixel_decoder, in_features
        self.stride = stride
        self.divisor, self.deep_supervision = size_divisibility, deep_supervision
        self.ignore_value, self.hard_fraction = ignore_value, hard_fraction
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        model, options = cfg.MODEL.MASK_FORMER, super().from_config(cfg)
        if model.LOSS.PER_PIXEL not in HARD_FRACTION:
            raise ConfigError(
                f"MODEL.MASK_FORMER.LOSS.PER_PIXEL: there is no {model.LOSS.PER_PIXEL!r}, "
                f"only {', '.join(HARD_FRACTION)}"
            )
        channels = feature_channels(cfg, options["backbone"])
        return {
            **options,
            "pixel_decoder": build_pixel_decoder(cfg, channels),
            "in_features": model.IN_FEATURES,
            "stride": options["backbone"].output_shape()[model.IN_FEATURES[0]].stride,
            "size_divisibility": model.SIZE_DIVISIBILITY,
            "deep_supervision": model.DEEP_SUPERVISION,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            "hard_fraction": HARD_FRACTION[model.LOSS.PER_PIXEL],
            "loss_weight": cfg.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT,
        }

    @classmethod
    def required_annotations(cls, cfg: CfgNode) -> dict[str, str]:
        return {"semantic masks": f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}"}

    @property
    def size_divisibility(self) -> int:
        return max(self.divisor, self.backbone.size_divisibility)

    @abstractmethod
    def classify(self, features: PixelFeatures) -> list[Tensor]:
        """Return class logits (B, K, h, w) per layer, the last one's last."""

    def predict(self, images: ImageList) -> list[Tensor]:
        """Return class logits (B, K, h, w) per layer at the finest feature map."""
        features = self.backbone(images.tensor)
        return self.classify(self.pixel_decoder([features[name] for name in self.in_features]))

    def targets(self, batch: list[dict]) -> list[Tensor]:
        """Return the labels per image, (H, W) int64."""
        return [item["sem_seg"].to(self.device) for item in batch]

    def losses(self, images: ImageList, targets: list[Tensor]) -> dict[str, Tensor]:
        labels = ImageList.from_tensors(
            targets, self.size_divisibility, self.ignore_value, self.backbone.padding_constraints
        ).tensor
        layers = self.predict(images)
        layers = layers if self.deep_supervision else layers[-1:]
        losses = {}
        for index, logits in enumerate(layers):
            suffix = f"_{index}" if index < len(layers) - 1 else ""
            logits = self._at_pixels(logits, images)
            loss = hard_pixel_cross_entropy(logits, labels, self.hard_fraction, self.ignore_value)
            losses[f"loss_sem_seg{suffix}"] = self.loss_weight * loss
        return losses

    def detect(self, images: ImageList) -> list[FoundScores]:
        logits = self._at_pixels(self.predict(images)[-1], images)
        return [FoundScores(*pair) for pair in zip(logits, images.image_sizes, strict=True)]

    def _at_pixels(self, logits: Tensor, images: ImageList) -> Tensor:
        """Resize logits by the stride, as published, and cut what lies beyond the padded images."""
        height, width = images.tensor.shape[-2:]
        logits = F.interpolate(logits.float(), scale_factor=self.stride, mode="bilinear")
        return logits[..., :height, :width]

    def postprocess(self, found: FoundScores, height: int, width: int) -> dict[str, Any]:
        """Return "sem_seg", (K, height, width) logits."""
        return {"sem_seg": sem_seg_postprocess(found.scores, found.image_size, height, width)}


@META_ARCH_REGISTRY.register()
class PerPixelBaseline(PerPixelModel):
    """A linear classifier on the pixel embeddings.

    Args:
        predictor: maps embeddings to class logits.
        options: those of `PerPixelModel`.
    """

    @configurable
    def __init__(self, *, predictor: nn.Module, **options: Any) -> None:
        super().__init__(**options)
        self.predictor = predictor

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        predictor = nn.Conv2d(cfg.MODEL.MASK_FORMER.CHANNELS, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, 1)
        nn.init.kaiming_normal_(predictor.weight, mode="fan_out")
        nn.init.zeros_(predictor.bias)  # type: ignore[arg-type]
        return {**super().from_config(cfg), "predictor": predictor}

    def classify(self, features: PixelFeatures) -> list[Tensor]:
        return [self.predictor(features.embeddings)]


@META_ARCH_REGISTRY.register()
class PerPixelBaselinePlus(PerPixelModel):
    """The transformer of MaskFormer with one query per class, whose mask is its logit per pixel.

    Args:
        predictor: as many queries as classes.
        options: those of `PerPixelModel`.
    """

    @configurable
    def __init__(self, *, predictor: QueryMasks, **options: Any) -> None:
        super().__init__(**options)
        self.predictor = predictor

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        options = super().from_config(cfg)
        memory = feature_channels(cfg, options["backbone"])[-1]
        queries = query_options(cfg, memory, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)
        return {**options, "predictor": QueryMasks(**queries)}

    def classify(self, features: PixelFeatures) -> list[Tensor]:
        queries = self.predictor.queries(features)
        return self.predictor.masks(queries if self.training else queries[-1:], features)
