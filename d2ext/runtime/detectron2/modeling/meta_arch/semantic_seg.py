"""Semantic segmentation, and the semantic head of Panoptic FPN (arXiv:1901.02446)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm, move_device_like
from detectron2.structures import ImageList
from detectron2.utils.registry import Registry

from ..backbone import Backbone, build_backbone
from ..postprocessing import sem_seg_postprocess, wanted_size
from .build import META_ARCH_REGISTRY

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = [
    "SEM_SEG_HEADS_REGISTRY",
    "SemSegFPNHead",
    "SemanticSegmentor",
    "build_sem_seg_head",
]

SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS")
SEM_SEG_HEADS_REGISTRY.__doc__ = """Semantic segmentation heads by name.

A registered object is called with `(cfg, input_shape: dict[str, ShapeSpec])`.
"""


def build_sem_seg_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build the head named by `cfg.MODEL.SEM_SEG_HEAD.NAME`."""
    return SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, input_shape)


@META_ARCH_REGISTRY.register()
class SemanticSegmentor(nn.Module):
    """A backbone and a head that classifies each pixel.

    Args:
        backbone: computes the features.
        sem_seg_head: called with the features and, in training, the target; returns scores and
            losses.
        pixel_mean, pixel_std: mean and standard deviation per image channel.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        sem_seg_head: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        for name, values in {"pixel_mean": pixel_mean, "pixel_std": pixel_std}.items():
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Return losses in training, otherwise a list of {"sem_seg": (classes, height, width)}.

        Args:
            batched_inputs: per image a dict of "image": (C, H, W), in training "sem_seg": (H, W)
                classes, in inference optionally "height" and "width" of the scores (by default
                the image's).
        """
        images = self._batch([x["image"] for x in batched_inputs])
        features = self.backbone(images.tensor)
        targets = None
        if "sem_seg" in batched_inputs[0]:
            ignore_value = cast(int, self.sem_seg_head.ignore_value)
            targets = sem_seg_targets(batched_inputs, self.backbone, ignore_value, self.device)
        scores, losses = self.sem_seg_head(features, targets)
        if self.training:
            return losses
        return [
            {"sem_seg": sem_seg_postprocess(s, size, *wanted_size(x, size))}
            for s, x, size in zip(scores, batched_inputs, images.image_sizes, strict=True)
        ]

    def _batch(self, images: list[Tensor]) -> ImageList:
        images = [move_device_like(image, self.pixel_mean) for image in images]
        return ImageList.from_tensors(
            [(image - self.pixel_mean) / self.pixel_std for image in images],
            self.backbone.size_divisibility,
            padding_constraints=self.backbone.padding_constraints,
        )


def sem_seg_targets(
    batched_inputs: list[dict[str, Any]],
    backbone: Backbone,
    ignore_value: int,
    device: torch.device,
) -> Tensor:
    """Stack "sem_seg" of the inputs to (B, H, W), padded by `ignore_value` like the images."""
    return ImageList.from_tensors(
        [x["sem_seg"].to(device) for x in batched_inputs],
        backbone.size_divisibility,
        ignore_value,
        backbone.padding_constraints,
    ).tensor


class UpsamplingHead(nn.Module):
    """Base of the heads whose `layers` predict at a coarser stride and are upsampled."""

    common_stride: int

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Compute scores (B, num_classes, H / common_stride, W / common_stride)."""
        raise NotImplementedError

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compute "loss_sem_seg" from the scores of `layers`."""
        raise NotImplementedError

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return None and the loss in training, otherwise scores (B, num_classes, H, W) and {}.

        Args:
            targets: (B, H, W) classes.
        """
        scores = self.layers(features)
        if self.training:
            return None, self.losses(scores, cast(Any, targets))
        return self._upsampled(scores), {}

    def _upsampled(self, scores: Tensor) -> Tensor:
        return F.interpolate(
            scores, scale_factor=self.common_stride, mode="bilinear", align_corners=False
        )


@SEM_SEG_HEADS_REGISTRY.register()
class SemSegFPNHead(UpsamplingHead):
    """Semantic FPN head: levels are convolved, upsampled to one stride, summed and classified.

    Args:
        input_shape: channels and stride of each feature.
        num_classes: number of classes, background included.
        conv_dims: channels of the convolutions.
        common_stride: stride to which the features are upsampled.
        loss_weight: weight of the loss.
        norm: normalisation of the convolutions, see `get_norm`.
        ignore_value: label of pixels excluded from the loss.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        num_classes: int,
        conv_dims: int,
        common_stride: int,
        loss_weight: float = 1.0,
        norm: str | Callable[[int], nn.Module] | None = None,
        ignore_value: int = -1,
    ) -> None:
        super().__init__()
        shapes = sorted(input_shape.items(), key=lambda item: cast(int, item[1].stride))
        if not shapes:
            raise ValueError("SemSegFPNHead needs at least one input feature")
        self.in_features = [name for name, _ in shapes]
        self.ignore_value, self.loss_weight = ignore_value, loss_weight
        self.common_stride = common_stride
        self.scale_heads = []
        for name, shape in shapes:
            head = _scale_head(shape, conv_dims, common_stride, norm)
            self.scale_heads.append(head)
            self.add_module(name, head)
        self.predictor = Conv2d(conv_dims, num_classes, kernel_size=1)
        weight_init.c2_msra_fill(self.predictor)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        section = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {k: v for k, v in input_shape.items() if k in section.IN_FEATURES},
            "num_classes": section.NUM_CLASSES,
            "conv_dims": section.CONVS_DIM,
            "common_stride": section.COMMON_STRIDE,
            "loss_weight": section.LOSS_WEIGHT,
            "norm": section.NORM,
            "ignore_value": section.IGNORE_VALUE,
        }

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Compute scores (B, num_classes, H / common_stride, W / common_stride)."""
        levels = [
            head(features[name])
            for name, head in zip(self.in_features, self.scale_heads, strict=True)
        ]
        total = levels[0]
        for level in levels[1:]:
            total = total + level
        return self.predictor(total)

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compute "loss_sem_seg": cross entropy of the upsampled scores of `layers`."""
        scores = self._upsampled(predictions.float())
        loss = F.cross_entropy(scores, targets, reduction="mean", ignore_index=self.ignore_value)
        return {"loss_sem_seg": loss * self.loss_weight}


def _scale_head(shape: ShapeSpec, conv_dims: int, common_stride: int, norm: Any) -> nn.Sequential:
    """Build one convolution per doubling of the resolution, at least one."""
    doublings = int(math.log2(cast(int, shape.stride)) - math.log2(common_stride))
    layers: list[nn.Module] = []
    channels = cast(int, shape.channels)
    for _ in range(max(1, doublings)):
        layers.append(_conv(channels, conv_dims, norm))
        if doublings > 0:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
        channels = conv_dims
    return nn.Sequential(*layers)


def _conv(in_channels: int, out_channels: int, norm: Any) -> Conv2d:
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=3,
        padding=1,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=F.relu,
    )
    weight_init.c2_msra_fill(conv)
    return conv
