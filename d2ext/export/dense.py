"""The one-stage detectors of d2ext and Detectron2."""

from typing import Any

import torch
from torch import Tensor

from d2ext.export.exporter import Exporter, Levels, register_exporter
from d2ext.modeling.dense_heads.common import flatten_cells
from d2ext.modeling.meta_arch import ATSS, FCOS
from detectron2.modeling import RetinaNet

Raw = dict[str, list[Tensor]]


@register_exporter(RetinaNet)
class RetinaNetExporter(Exporter):
    """Raw outputs: "anchors" (A, 4) XYXY, "logits" (B, A, classes) and "deltas" (B, A, 4)."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.nms_thresh, self.max_detections = model.test_nms_thresh, model.max_detections_per_image
        self.topk_candidates = model.test_topk_candidates

    def head(self, images: Tensor) -> Raw:
        features = self.model.backbone(images)
        levels = [features[name] for name in self.model.head_in_features]
        logits, deltas = self.model.head(levels)
        return {
            "anchors": [boxes.tensor for boxes in self.model.anchor_generator(levels)],
            "logits": [flatten_cells(level, self.model.num_classes) for level in logits],
            "deltas": [flatten_cells(level, 4) for level in deltas],
        }

    def decode(self, raw: Raw) -> Levels:
        transform, threshold = self.model.box2box_transform, self.model.test_score_thresh
        return Levels(
            [
                _apply_deltas(transform, *level)
                for level in zip(raw["deltas"], raw["anchors"], strict=True)
            ],
            [_above(level.sigmoid(), threshold) for level in raw["logits"]],
        )


class DenseExporter(Exporter):
    """A `DenseDetector`; a subclass names the head's outputs and decodes them."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.nms_thresh, self.max_detections = model.head.nms_thresh, model.head.max_detections
        self.topk_candidates = model.head.topk_candidates


@register_exporter(ATSS)
class ATSSExporter(DenseExporter):
    """Raw outputs: "anchors" (A, 4), "logits" (B, A, classes), "deltas" (B, A, 4) and
    "centerness" (B, A)."""

    def head(self, images: Tensor) -> Raw:
        found = self.model.head(self.model.backbone(images))
        anchors = [boxes.tensor for boxes in found.anchors]
        return {
            "anchors": anchors,
            "logits": found.logits,
            "deltas": found.deltas,
            "centerness": found.centerness,
        }

    def decode(self, raw: Raw) -> Levels:
        head = self.model.head
        levels = zip(raw["logits"], raw["centerness"], strict=True)
        return Levels(
            [
                _apply_deltas(head.box_transform, *level)
                for level in zip(raw["deltas"], raw["anchors"], strict=True)
            ],
            [
                _above(logits.sigmoid(), head.score_thresh) * center.sigmoid().unsqueeze(-1)
                for logits, center in levels
            ],
        )


@register_exporter(FCOS)
class FCOSExporter(DenseExporter):
    """Raw outputs: "locations" (A, 2) XY, "logits" (B, A, classes), "ltrb" (B, A, 4) distances in
    strides and "quality" (B, A)."""

    def head(self, images: Tensor) -> Raw:
        found = self.model.head(self.model.backbone(images))
        return {
            "locations": found.locations,
            "logits": found.logits,
            "ltrb": found.ltrb,
            "quality": found.quality,
        }

    def decode(self, raw: Raw) -> Levels:
        boxes = []
        for stride, points, ltrb in zip(
            self.model.head.strides, raw["locations"], raw["ltrb"], strict=True
        ):
            before, behind = (ltrb * stride).split(2, dim=-1)
            boxes.append(torch.cat((points - before, points + behind), dim=-1))
        levels = zip(raw["logits"], raw["quality"], strict=True)
        return Levels(boxes, [self._scores(*level) for level in levels])

    def _scores(self, logits: Tensor, quality: Tensor) -> Tensor:
        head = self.model.head
        probability = logits.sigmoid()
        product = probability * quality.sigmoid().unsqueeze(-1)
        compared = product if head.thresh_with_quality else probability
        return torch.where(compared > head.score_thresh, product, 0.0).sqrt()


def _above(probability: Tensor, threshold: float) -> Tensor:
    return torch.where(probability > threshold, probability, 0.0)


def _apply_deltas(transform: Any, deltas: Tensor, anchors: Tensor) -> Tensor:
    """(B, A, 4) deltas to (A, 4) anchors: (B, A, 4) boxes."""
    repeated = anchors.expand(deltas.shape[0], -1, -1).reshape(-1, 4)
    return transform.apply_deltas(deltas.reshape(-1, 4), repeated).view(deltas.shape)
