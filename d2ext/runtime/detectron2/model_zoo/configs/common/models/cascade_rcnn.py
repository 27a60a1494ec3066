"""Cascade Mask R-CNN on a feature pyramid."""

from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import CascadeROIHeads

from .mask_rcnn_fpn import model
from .parts import box_head, matcher, predictor

_heads = model.roi_heads
_heads._target_ = CascadeROIHeads
for _name in ("box_head", "box_predictor", "proposal_matcher"):
    del _heads[_name]
_weights = [(10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15)]
_heads.box_heads = [box_head() for _ in _weights]
_heads.box_predictors = [
    predictor(ShapeSpec(channels=1024), *stage, cls_agnostic_bbox_reg=True) for stage in _weights
]
for _predictor in _heads.box_predictors:
    _predictor.num_classes = "${...num_classes}"  # one level further up than in a plain head
_heads.proposal_matchers = [matcher([iou], [0, 1], False) for iou in (0.5, 0.6, 0.7)]
