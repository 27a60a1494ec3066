"""Exporters of the dense detectors of d2ext and Detectron2."""

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from d2ext.errors import ConfigError
from d2ext.exporters.exporter import NMSExporter, register_exporter
from d2ext.modeling.dense_heads import LevelPredictions, PostProcess
from d2ext.modeling.dense_heads.dense_head import apply_dense_deltas, flatten_cells
from d2ext.modeling.meta_arch import DenseDetector
from detectron2.modeling import RetinaNet

Raw = dict[str, list[Tensor]]


class DenseExporter(NMSExporter):
    """Any `DenseHead`: its raw outputs are the fields of its predictions, by their names."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        if model.head.rotated:
            raise ConfigError(
                f"MODEL.DENSE_HEAD.NAME: {type(model.head).__name__} cannot be exported: files "
                "hold upright boxes. Predict with d2ext-demo or the Python API; models of upright "
                "boxes or of masks can be exported, such as configs/atss_lite0.yaml and "
                "configs/mask_rcnn_lite0.yaml."
            )
        self.postprocess = model.head.postprocess

    def head(self, images: Tensor) -> Raw:
        found = self.model.head(self.model.backbone(self.pad(images)))
        # Anchors are `Boxes`, everything else is tensors.
        return {
            field.name: [getattr(level, "tensor", level) for level in getattr(found, field.name)]
            for field in fields(found)
        }

    def decode(self, raw: Raw) -> LevelPredictions:
        return self.model.head.decode_dense(**raw)


register_exporter(DenseDetector, DenseExporter)


class RetinaNetExporter(NMSExporter):
    """Raw outputs: "anchors" (A, 4) XYXY, "logits" (B, A, classes) and "deltas" (B, A, 4)."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.postprocess = PostProcess(
            score_thresh=model.test_score_thresh,
            topk_candidates=model.test_topk_candidates,
            nms_thresh=model.test_nms_thresh,
            max_detections=model.max_detections_per_image,
        )

    def set_score_threshold(self, value: float) -> None:
        super().set_score_threshold(value)
        self.model.test_score_thresh = value

    def head(self, images: Tensor) -> Raw:
        features = self.model.backbone(self.pad(images))
        levels = [features[name] for name in self.model.head_in_features]
        logits, deltas = self.model.head(levels)
        return {
            "anchors": [boxes.tensor for boxes in self.model.anchor_generator(levels)],
            "logits": [flatten_cells(level, self.model.num_classes) for level in logits],
            "deltas": [flatten_cells(level, 4) for level in deltas],
        }

    def decode(self, raw: Raw) -> LevelPredictions:
        transform, threshold = self.model.box2box_transform, self.postprocess.score_thresh
        boxes = [
            apply_dense_deltas(transform, *level)
            for level in zip(raw["deltas"], raw["anchors"], strict=True)
        ]
        probabilities = [level.sigmoid() for level in raw["logits"]]
        scores = [torch.where(level > threshold, level, 0.0) for level in probabilities]
        return LevelPredictions(boxes, scores)


register_exporter(RetinaNet, RetinaNetExporter)
