"""The DETR family as `tools/export.py` sees it: a fixed number of queries, and no NMS."""

from typing import Any

import torch
from torch import Tensor

from d2ext.errors import ConfigError
from d2ext.exporters import Exporter, register_exporter
from d2ext.exporters.selection import Selected, topk_candidates
from d2ext.modeling.dense_heads import LevelPredictions
from d2ext.modeling.losses.boxes import cxcywh_to_xyxy
from d2ext.projects.detr.modeling.query_detector import QueryDetector
from detectron2.structures import ImageList


class QueryExporter(Exporter):
    """Raw outputs: "logits" (B, Q, K) and "boxes" (B, Q, 4) XYXY in pixels, not clipped."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        if model.masks_on:
            raise ConfigError(
                "a model with a mask head cannot be exported: its file would hold no masks; "
                "export the boxes alone with MODEL.MASK_ON False."
            )

    def head(self, images: Tensor) -> dict[str, list[Tensor]]:
        height, width = images.shape[-2:]
        found = self.model.predict(ImageList(images, []))[0]  # no sizes: nothing is padded
        x0, y0, x1, y1 = cxcywh_to_xyxy(found.boxes[-1]).unbind(-1)
        boxes = torch.stack((x0 * width, y0 * height, x1 * width, y1 * height), dim=-1)
        return {"logits": [found.logits[-1]], "boxes": [boxes]}

    def decode(self, raw: dict[str, list[Tensor]]) -> LevelPredictions:
        if self.per_query:
            return LevelPredictions(raw["boxes"], [raw["logits"][0].softmax(-1)[..., :-1]])
        return LevelPredictions(raw["boxes"], [raw["logits"][0].sigmoid()])

    def select(self, levels: LevelPredictions) -> Selected:
        if self.per_query:
            scores, classes = levels.scores[0].max(-1)
            return levels.boxes[0], scores, classes
        return topk_candidates(levels, self.model.max_detections)

    @property
    def per_query(self) -> bool:
        """True if every query is one detection, of its best class."""
        return self.model.criterion.matcher.classification == "softmax"


register_exporter(QueryDetector, QueryExporter)
