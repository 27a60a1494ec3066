"""ATSS: one square anchor a cell, adaptive assignment, GIoU and centerness.

Source: Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive
Training Sample Selection", 2020, arXiv:1912.02424.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.nn import giou_loss
from torch import Tensor, nn

from d2ext.errors import ConfigError
from d2ext.modeling.dense_heads.common import (
    best_detections,
    conv_tower,
    flatten_cells,
    prior_bias,
)
from d2ext.modeling.dense_heads.registry import DENSE_HEAD_REGISTRY
from d2ext.modeling.init import init_normal
from d2ext.modeling.losses import centerness, class_loss, mean_over_processes
from d2ext.modeling.matching import match_adaptively
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_anchor_generator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances


@dataclass
class ATSSPredictions:
    """Raw outputs over the levels, and the anchors they refer to.

    Attributes:
        anchors: of each level, A_l boxes, XYXY in pixels of the padded image.
        logits: of each level, (B, A_l, classes).
        deltas: of each level, (B, A_l, 4), dx dy dw dh relative to the anchors.
        centerness: of each level, (B, A_l) logits.
    """

    anchors: list[Boxes]
    logits: list[Tensor]
    deltas: list[Tensor]
    centerness: list[Tensor]


@dataclass
class ATSSTargets:
    """What the anchors of a batch are to predict.

    Attributes:
        positive: (B, A) bool.
        classes: (P,) int64, of the positive anchors in order.
        anchors: (P, 4) the positive anchors, XYXY in pixels.
        boxes: (P, 4) their boxes, XYXY in pixels.
    """

    positive: Tensor
    classes: Tensor
    anchors: Tensor
    boxes: Tensor


@DENSE_HEAD_REGISTRY.register()
class ATSSHead(nn.Module):
    """Class, box and centerness of one anchor a cell.

    Args:
        input_shapes: of the features by name.
        in_features: the levels to use, finest first.
        anchor_generator: gives one anchor a cell.
        num_classes: classes, without background.
        num_convs: 3x3 convolutions of each tower, before the predictors.
        channels: their output channels.
        norm: of the towers, "GN" or another name of `detectron2.layers.get_norm`.
        deformable_tower: the last one of each tower is deformable.
        predictor_size: side of the kernels that predict, 1 or 3.
        topk: candidate anchors of a box on each level.
        prior_prob: class probability that training starts from.
        bbox_reg_weights: of dx, dy, dw, dh.
        focal_loss_alpha: weight of positives in the focal loss.
        focal_loss_gamma: its exponent.
        reg_loss_weight: of the box loss.
        score_thresh: lowest class probability of a detection.
        topk_candidates: detections kept on each level before NMS.
        nms_thresh: IoU above which the lower of two detections of a class goes.
        max_detections: detections of an image.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shapes: dict[str, ShapeSpec],
        in_features: Sequence[str],
        anchor_generator: Any,
        num_classes: int,
        num_convs: int,
        channels: int,
        norm: str,
        deformable_tower: bool,
        predictor_size: int,
        topk: int,
        prior_prob: float,
        bbox_reg_weights: tuple[float, float, float, float],
        focal_loss_alpha: float,
        focal_loss_gamma: float,
        reg_loss_weight: float,
        score_thresh: float,
        topk_candidates: int,
        nms_thresh: float,
        max_detections: int,
    ) -> None:
        super().__init__()
        if set(anchor_generator.num_anchors) != {1}:
            raise ConfigError(
                "ATSSHead takes one anchor a cell: give MODEL.ANCHOR_GENERATOR one size a level "
                f"and one aspect ratio, not {anchor_generator.num_anchors} anchors"
            )
        self.in_features, self.num_classes, self.topk = tuple(in_features), num_classes, topk
        self.focal_loss_alpha, self.focal_loss_gamma = focal_loss_alpha, focal_loss_gamma
        self.reg_loss_weight, self.max_detections = reg_loss_weight, max_detections
        self.score_thresh, self.topk_candidates = score_thresh, topk_candidates
        self.nms_thresh = nms_thresh
        self.anchor_generator = anchor_generator
        self.box_transform = Box2BoxTransform(weights=bbox_reg_weights)

        in_channels = input_shapes[self.in_features[0]].channels
        assert in_channels is not None
        layers = (num_convs, norm, deformable_tower, len(self.in_features))
        self.cls_tower = conv_tower(in_channels, channels, *layers)
        self.bbox_tower = conv_tower(in_channels, channels, *layers)
        width, side = channels if num_convs else in_channels, predictor_size
        self.cls_logits = nn.Conv2d(width, num_classes, side, padding=side // 2)
        self.bbox_pred = nn.Conv2d(width, 4, side, padding=side // 2)
        self.centerness = nn.Conv2d(width, 1, side, padding=side // 2)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in self.in_features)
        for predictor in (self.cls_logits, self.bbox_pred, self.centerness):
            init_normal(predictor)
        init_normal(self.cls_logits, bias=prior_bias(prior_prob))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> dict:
        atss = cfg.MODEL.ATSS
        shapes = [input_shapes[name] for name in atss.IN_FEATURES]
        return {
            "input_shapes": input_shapes,
            "in_features": atss.IN_FEATURES,
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "num_classes": atss.NUM_CLASSES,
            "num_convs": atss.NUM_CONVS,
            "channels": atss.CHANNELS,
            "norm": atss.NORM,
            "deformable_tower": atss.DEFORMABLE_TOWER,
            "predictor_size": atss.PREDICTOR_SIZE,
            "topk": atss.TOPK,
            "prior_prob": atss.PRIOR_PROB,
            "bbox_reg_weights": tuple(atss.BBOX_REG_WEIGHTS),
            "focal_loss_alpha": atss.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": atss.FOCAL_LOSS_GAMMA,
            "reg_loss_weight": atss.REG_LOSS_WEIGHT,
            "score_thresh": atss.SCORE_THRESH_TEST,
            "topk_candidates": atss.TOPK_CANDIDATES_TEST,
            "nms_thresh": atss.NMS_THRESH_TEST,
            "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    def forward(self, features: dict[str, Tensor]) -> ATSSPredictions:
        """Features (B, C, h, w) by name -> predictions at every cell."""
        levels = [features[name] for name in self.in_features]
        found = ATSSPredictions(self.anchor_generator(levels), [], [], [])
        for i, level in enumerate(levels):
            about_class, about_box = self.cls_tower(level, i), self.bbox_tower(level, i)
            deltas = self.bbox_pred(about_box) * self.scales[i]
            found.logits.append(flatten_cells(self.cls_logits(about_class), self.num_classes))
            found.deltas.append(flatten_cells(deltas, 4))
            found.centerness.append(flatten_cells(self.centerness(about_box), 1).squeeze(-1))
        return found

    def losses(self, predictions: ATSSPredictions, instances: list[Instances]) -> dict[str, Tensor]:
        """Losses of a batch, means over the positive anchors of all processes.

        Args:
            instances: of each image, with `gt_boxes` and `gt_classes`; there may be none.
        Returns:
            "loss_cls" (focal), "loss_box_reg" (GIoU, weighted by centerness), "loss_centerness".
        """
        targets = self.targets(predictions.anchors, instances)
        count = mean_over_processes(targets.positive.sum().float()).clamp(min=1)
        deltas = torch.cat(predictions.deltas, dim=1)[targets.positive].float()
        logits = torch.cat(predictions.centerness, dim=1)[targets.positive].float()
        weights = centerness(Boxes(targets.anchors).get_centers(), targets.boxes)
        loss_cls = class_loss(
            predictions.logits,
            targets.positive,
            targets.classes,
            self.focal_loss_alpha,
            self.focal_loss_gamma,
        )
        return {
            "loss_cls": loss_cls / count,
            "loss_box_reg": self._box_loss(deltas, targets, weights),
            "loss_centerness": F.binary_cross_entropy_with_logits(logits, weights, reduction="sum")
            / count,
        }

    @torch.no_grad()
    def targets(self, anchors: list[Boxes], instances: list[Instances]) -> ATSSTargets:
        """Match the anchors to the boxes of a batch."""
        boxes = Boxes.cat([image.gt_boxes for image in instances])
        classes = torch.cat([image.gt_classes for image in instances])
        counts = torch.tensor([len(image) for image in instances], device=boxes.device)
        images = torch.arange(len(instances), device=boxes.device).repeat_interleave(counts)
        matched = match_adaptively(anchors, boxes, images, len(instances), self.topk)
        positive = matched >= 0
        box, anchor = matched[positive], positive.nonzero()[:, 1]
        return ATSSTargets(
            positive=positive,
            classes=classes[box],
            anchors=Boxes.cat(anchors).tensor[anchor],
            boxes=boxes.tensor[box],
        )

    def decode(
        self, predictions: ATSSPredictions, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """Detections of each image: `pred_boxes` in its pixels, `scores`, `pred_classes`.

        Args:
            image_sizes: (height, width) of each image without padding.
        """
        return [
            self._decode_image(predictions, index, size) for index, size in enumerate(image_sizes)
        ]

    def _box_loss(self, deltas: Tensor, targets: ATSSTargets, weights: Tensor) -> Tensor:
        boxes = self.box_transform.apply_deltas(deltas, targets.anchors)
        total = (giou_loss(boxes, targets.boxes) * weights).sum()
        norm = mean_over_processes(weights.sum()).clamp(min=1e-6)
        return self.reg_loss_weight * total / norm

    def _decode_image(
        self, predictions: ATSSPredictions, index: int, size: tuple[int, int]
    ) -> Instances:
        levels = zip(
            predictions.anchors,
            (logits[index] for logits in predictions.logits),
            (deltas[index] for deltas in predictions.deltas),
            (centers[index] for centers in predictions.centerness),
            strict=True,
        )
        found = (self._decode_level(*level) for level in levels)
        return best_detections(found, size, self.nms_thresh, self.max_detections)

    def _decode_level(
        self, anchors: Boxes, logits: Tensor, deltas: Tensor, centers: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (N, 4), scores (N,) and classes (N,) of one level, the best `topk_candidates`."""
        probability = logits.float().sigmoid()
        anchor, label = (probability > self.score_thresh).nonzero(as_tuple=True)
        scores = probability[anchor, label] * centers[anchor].float().sigmoid()
        scores, best = scores.topk(min(self.topk_candidates, len(scores)))
        anchor, label = anchor[best], label[best]
        boxes = self.box_transform.apply_deltas(deltas[anchor].float(), anchors.tensor[anchor])
        return boxes, scores, label
