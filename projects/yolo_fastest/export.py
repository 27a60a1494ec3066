"""The exporter of YOLO-FastestV2."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2ext.exporters import NMSExporter, register_exporter
from d2ext.modeling.dense_heads import LevelPredictions
from d2ext.projects.yolo_fastest.modeling import RawLevel, YoloFastest, decode


class YoloFastestExporter(NMSExporter):
    """Raw outputs: the maps of `RawLevel`, (B, channels, cells); every box has one class."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.postprocess = model.head.postprocess
        self.clip = model.clip_boxes
        self.shifted = bool(model.pixel_mean.any())
        # Channels share one deviation here: the published models divide by 255.
        self.deviation = 1.0 if self.shifted else float(model.pixel_std.mean())
        self.backbone = model.backbone if self.shifted else _scaled(model)

    @property
    def stride(self) -> int:
        return max(self.model.head.strides)

    @property
    def pad_value(self) -> float:
        return super().pad_value * self.deviation

    def normalize(self, images: Tensor) -> Tensor:
        # A pass over the image counts here: where the mean is zero, the stem's weights divide.
        return super().normalize(images) if self.shifted else images

    def head(self, images: Tensor) -> dict[str, list[Tensor]]:
        levels = self.model.head(self.backbone(self.pad(images)))
        return {name: [getattr(level, name) for level in levels] for name in RawLevel._fields}

    def decode(self, raw: dict[str, list[Tensor]]) -> LevelPredictions:
        head = self.model.head
        levels = [RawLevel(*maps) for maps in zip(*raw.values(), strict=True)]
        found = decode(levels, head.anchors, head.strides)
        scores = torch.where(found.scores > self.postprocess.score_thresh, found.scores, 0.0)
        own = F.one_hot(found.classes, head.num_classes)
        return LevelPredictions([found.boxes], [scores.unsqueeze(-1) * own])


register_exporter(YoloFastest, YoloFastestExporter)


@torch.no_grad()
def _scaled(model: Any) -> nn.Module:
    """Fold `pixel_std` into the stem: the backbone then takes pixels in 0..255."""
    backbone = copy.deepcopy(model.backbone)
    backbone.bottom_up.stem.weight /= model.pixel_std.view(1, -1, 1, 1)
    return backbone
