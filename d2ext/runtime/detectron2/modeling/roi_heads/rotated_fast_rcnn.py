"""Fast R-CNN for rotated boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from detectron2.config import configurable
from detectron2.layers import ShapeSpec, batched_nms_rotated
from detectron2.structures import Instances, RotatedBoxes, pairwise_iou_rotated

from ..box_regression import Box2BoxTransformRotated
from .fast_rcnn import FastRCNNOutputLayers, Predictions, candidate_detections
from .roi_heads import ROI_HEADS_REGISTRY, StandardROIHeads

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def fast_rcnn_inference_rotated(
    boxes: list[Tensor],
    scores: list[Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[Tensor]]:
    """Select the best rotated detections per image, from (Ri, classes * 5) or (Ri, 5) boxes."""
    found = [
        fast_rcnn_inference_single_image_rotated(*image, score_thresh, nms_thresh, topk_per_image)
        for image in zip(boxes, scores, image_shapes, strict=True)
    ]
    return [instances for instances, _ in found], [rows for _, rows in found]


def fast_rcnn_inference_single_image_rotated(
    boxes: Tensor,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, Tensor]:
    """Select the best rotated detections of one image."""
    candidates, scores, classes, rows = candidate_detections(boxes, scores, score_thresh, 5)
    clipped = RotatedBoxes(candidates)
    clipped.clip(image_shape)
    keep = batched_nms_rotated(clipped.tensor, scores, classes, nms_thresh)
    if topk_per_image >= 0:
        keep = keep[:topk_per_image]
    found = Instances(image_shape, pred_boxes=clipped[keep], scores=scores[keep])
    found.pred_classes = classes[keep]
    return found, rows[keep]


class RotatedFastRCNNOutputLayers(FastRCNNOutputLayers):
    """`FastRCNNOutputLayers` for rotated boxes."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        options = super().from_config(cfg, input_shape)
        weights = cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS
        return {**options, "box2box_transform": Box2BoxTransformRotated(weights=weights)}

    def inference(
        self, predictions: Predictions, proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        return fast_rcnn_inference_rotated(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [p.image_size for p in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )


@ROI_HEADS_REGISTRY.register()
class RROIHeads(StandardROIHeads):
    """`StandardROIHeads` for rotated boxes; boxes only."""

    _pairwise_iou = staticmethod(pairwise_iou_rotated)

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.mask_on or self.keypoint_on:
            raise NotImplementedError("RROIHeads predicts boxes only: no masks, no keypoints")
        if self.train_on_pred_boxes:
            raise NotImplementedError("RROIHeads has no heads to train on predicted boxes")

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        if cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE != "ROIAlignRotated":
            raise ValueError("RROIHeads needs MODEL.ROI_BOX_HEAD.POOLER_TYPE: ROIAlignRotated")
        return super()._init_box_head(cfg, input_shape)

    @classmethod
    def _box_predictor(cls, cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
        return RotatedFastRCNNOutputLayers(cfg, input_shape)
