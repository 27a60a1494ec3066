"""RetinaNet and FCOS as torchvision decodes them: boxes are clipped to the image before NMS.

Source: https://github.com/pytorch/vision, torchvision/models/detection/retinanet.py and fcos.py.
"""

from typing import Any

import torch
from torch import Tensor

from d2ext.modeling.required_annotations import (
    instance_annotations,
    register_required_annotations,
)
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, batched_nms
from detectron2.modeling import META_ARCH_REGISTRY, RetinaNet, build_backbone
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from detectron2.structures import Boxes, Instances


class ClippingDecoder:
    """Mix-in of Detectron2's dense detectors that clips boxes before NMS, not after it."""

    box2box_transform: Any
    test_score_thresh: float
    test_topk_candidates: int
    test_nms_thresh: float
    max_detections_per_image: int

    def inference_single_image(
        self,
        anchors: list[Boxes],
        box_cls: list[Tensor],
        box_delta: list[Tensor],
        image_size: tuple[int, int],
    ) -> Instances:
        """Decode one image: scores (R_l, classes) and deltas (R_l, 4) of each level."""
        levels = [self._best(*level) for level in zip(anchors, box_cls, box_delta, strict=True)]
        boxes, scores, classes = (torch.cat(parts) for parts in zip(*levels, strict=True))
        found = Instances(image_size)
        found.pred_boxes, found.scores, found.pred_classes = Boxes(boxes), scores, classes
        found.pred_boxes.clip(image_size)
        keep = batched_nms(found.pred_boxes.tensor, scores, classes, self.test_nms_thresh)
        return found[keep[: self.max_detections_per_image]]

    def _best(
        self, anchors: Boxes, scores: Tensor, deltas: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows, classes = (scores > self.test_score_thresh).nonzero(as_tuple=True)
        kept = scores[rows, classes]
        kept, best = kept.topk(min(self.test_topk_candidates, len(kept)))
        rows, classes = rows[best], classes[best]
        boxes = self.box2box_transform.apply_deltas(deltas[rows], anchors.tensor[rows])
        return boxes, kept, classes


@META_ARCH_REGISTRY.register()
class TorchvisionRetinaNet(ClippingDecoder, RetinaNet):
    """Detectron2's RetinaNet with torchvision's decoding."""


@META_ARCH_REGISTRY.register()
class TorchvisionFCOS(ClippingDecoder, FCOS):
    """Detectron2's FCOS with torchvision's decoding; locations are the corners of the cells.

    It reads `MODEL.FCOS`: classes, features, convolutions, norm, focal loss and thresholds. Its
    score threshold is for the geometric mean of class probability and centre-ness.
    """

    @configurable
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        strides = [self.backbone.output_shape()[name].stride for name in self.head_in_features]
        self.anchor_generator = DefaultAnchorGenerator(
            sizes=[[stride] for stride in strides], aspect_ratios=[1.0], strides=strides, offset=0.0
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        section, backbone = cfg.MODEL.FCOS, build_backbone(cfg)
        return {
            "backbone": backbone,
            "head": _head(section, [backbone.output_shape()[name] for name in section.IN_FEATURES]),
            "head_in_features": section.IN_FEATURES,
            "num_classes": section.NUM_CLASSES,
            "center_sampling_radius": section.CENTER_RADIUS,
            "focal_loss_alpha": section.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": section.FOCAL_LOSS_GAMMA,
            "test_score_thresh": section.SCORE_THRESH_TEST,
            "test_topk_candidates": section.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": section.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }


def _head(section: CfgNode, shapes: list[ShapeSpec]) -> FCOSHead:
    return FCOSHead(
        input_shape=shapes,
        num_classes=section.NUM_CLASSES,
        conv_dims=[section.CHANNELS] * section.NUM_CLS_CONVS,
        norm=section.NORM,
        prior_prob=section.PRIOR_PROB,
    )


register_required_annotations(FCOS, instance_annotations)
