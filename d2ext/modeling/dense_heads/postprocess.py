"""Postprocessing of dense predictions: score threshold, top-k, NMS, number of detections."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from d2ext.ops import batched_nms_rotated
from detectron2.config import CfgNode
from detectron2.layers import batched_nms
from detectron2.structures import Boxes, Instances, RotatedBoxes

# Boxes (N, 4) XYXY or (N, 5) XYWHA in pixels, scores (N,) and classes (N,) int64 of one level of
# one image.
Candidates = tuple[Tensor, Tensor, Tensor]


@dataclass
class PostProcess:
    """The thresholds between the predictions of a dense head and its detections.

    Attributes:
        score_thresh: detections score more than this.
        topk_candidates: candidates per level that enter NMS; None for all.
        nms_thresh: IoU above which the lower-scoring of two detections of a class is dropped.
        max_detections: detections per image.
    """

    score_thresh: float
    topk_candidates: int | None
    nms_thresh: float
    max_detections: int

    @classmethod
    def from_config(cls, cfg: CfgNode, section: CfgNode) -> "PostProcess":
        """Read the `*_TEST` keys of a head's section of the config."""
        return cls(
            score_thresh=section.SCORE_THRESH_TEST,
            topk_candidates=section.get("TOPK_CANDIDATES_TEST"),
            nms_thresh=section.NMS_THRESH_TEST,
            max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
        )

    def topk(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best (N,) scores of a level, in order, and their indices."""
        count = len(scores)
        if self.topk_candidates is not None:
            count = min(self.topk_candidates, count)
        return scores.topk(count)

    def detections(self, levels: Iterable[Candidates], image_size: tuple[int, int]) -> Instances:
        """Apply NMS within each class and keep the best detections.

        Args:
            levels: the candidates of an image, per level.
            image_size: (height, width) in pixels; boxes are clipped to it, rotated ones
                only if nearly upright.
        Returns:
            `pred_boxes`, `scores` and `pred_classes`, best first, without empty boxes.
        """
        boxes, scores, classes = (torch.cat(parts) for parts in zip(*levels, strict=True))
        rotated = boxes.shape[1] == 5
        nms, box_type = (batched_nms_rotated, RotatedBoxes) if rotated else (batched_nms, Boxes)
        keep = nms(boxes, scores, classes, self.nms_thresh)[: self.max_detections]
        result = Instances(image_size)
        result.pred_boxes = box_type(boxes[keep])
        result.scores, result.pred_classes = scores[keep], classes[keep]
        result.pred_boxes.clip(image_size)
        return result[result.pred_boxes.nonempty()]
