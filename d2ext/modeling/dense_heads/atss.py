"""ATSS: one square anchor per cell, adaptive assignment, GIoU loss and centerness.

Source: Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive
Training Sample Selection", 2020, arXiv:1912.02424.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.nn import giou_loss
from torch import Tensor, nn

from d2ext.errors import ConfigError
from d2ext.modeling.dense_heads.dense_head import (
    DenseHead,
    LevelPredictions,
    apply_dense_deltas,
    flatten_cells,
    head_options,
)
from d2ext.modeling.dense_heads.postprocess import Candidates, PostProcess
from d2ext.modeling.dense_heads.registry import DENSE_HEAD_REGISTRY
from d2ext.modeling.dense_heads.tower import conv_tower
from d2ext.modeling.init import init_normal, prior_bias
from d2ext.modeling.losses import centerness, dense_focal_loss, reduce_mean
from d2ext.modeling.matching import assign_atss
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_anchor_generator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances

# Keys of MODEL.ATSS, lower-case, that `ATSSLoss` takes; the others are the head's.
LOSS_OPTIONS = (
    *("topk", "bbox_reg_weights", "reg_loss_weight"),
    *("focal_loss_alpha", "focal_loss_gamma"),
)


@dataclass
class ATSSPredictions:
    """Raw outputs over the levels, and the anchors they refer to.

    Attributes:
        anchors: per level, A_l boxes, XYXY in pixels of the padded image.
        logits: per level, (B, A_l, classes).
        deltas: per level, (B, A_l, 4), dx dy dw dh relative to the anchors.
        centerness: per level, (B, A_l) logits.
    """

    anchors: list[Boxes]
    logits: list[Tensor]
    deltas: list[Tensor]
    centerness: list[Tensor]


@dataclass
class ATSSTargets:
    """What the anchors of a batch learn.

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
class ATSSHead(DenseHead):
    """Class, box and centerness of one anchor per cell.

    Args:
        input_shapes: shapes of the features by name.
        in_features: the levels to use, finest first.
        anchor_generator: generates one anchor per cell.
        num_classes: classes, without background.
        num_convs: 3x3 convolutions of each tower, before the predictors.
        channels: their output channels.
        norm: norm of the towers, "GN" or another name of `detectron2.layers.get_norm`.
        deformable_tower: make the last convolution of each tower deformable.
        predictor_size: side of the kernels that predict, 1 or 3.
        prior_prob: class probability that training starts from.
        criterion: the losses.
        postprocess: the thresholds of detections.
    """

    criterion: "ATSSLoss"

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
        prior_prob: float,
        criterion: "ATSSLoss",
        postprocess: PostProcess,
    ) -> None:
        super().__init__()
        if set(anchor_generator.num_anchors) != {1}:
            raise ConfigError(
                "ATSSHead takes one anchor per cell: give MODEL.ANCHOR_GENERATOR one size per "
                f"level and one aspect ratio, not {anchor_generator.num_anchors} anchors"
            )
        self.in_features, self.num_classes = tuple(in_features), num_classes
        self.anchor_generator = anchor_generator
        self.criterion, self.postprocess = criterion, postprocess

        in_channels = input_shapes[self.in_features[0]].channels
        assert in_channels is not None
        layers = (num_convs, norm, deformable_tower, len(self.in_features))
        self.cls_tower = conv_tower(in_channels, channels, *layers)
        self.bbox_tower = conv_tower(in_channels, channels, *layers)
        width, side = channels if num_convs else in_channels, predictor_size
        self.cls_logits = nn.Conv2d(width, num_classes, side, padding=side // 2)
        self.bbox_pred = nn.Conv2d(width, 4, side, padding=side // 2)
        self.centerness = nn.Conv2d(width, 1, side, padding=side // 2)
        # Levels share the predictors although their boxes differ in size: a factor per level.
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in self.in_features)
        for predictor in (self.cls_logits, self.bbox_pred, self.centerness):
            init_normal(predictor)
        init_normal(self.cls_logits, bias=prior_bias(prior_prob))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> dict[str, Any]:
        options = head_options(cfg, cfg.MODEL.ATSS, input_shapes)
        shapes = [input_shapes[name] for name in options["in_features"]]
        losses = {name: options.pop(name) for name in LOSS_OPTIONS}
        anchors = build_anchor_generator(cfg, shapes)
        return {**options, "anchor_generator": anchors, "criterion": ATSSLoss(**losses)}

    def forward(self, features: dict[str, Tensor]) -> ATSSPredictions:
        """Predict at every cell of the features (B, C, h, w) by name."""
        levels = [features[name] for name in self.in_features]
        found = ATSSPredictions(self.anchor_generator(levels), [], [], [])
        for i, level in enumerate(levels):
            for_class, for_box = self.cls_tower(level, i), self.bbox_tower(level, i)
            deltas = self.bbox_pred(for_box) * self.scales[i]
            found.logits.append(flatten_cells(self.cls_logits(for_class), self.num_classes))
            found.deltas.append(flatten_cells(deltas, 4))
            found.centerness.append(flatten_cells(self.centerness(for_box), 1).squeeze(-1))
        return found

    def candidates(self, predictions: ATSSPredictions, index: int) -> Iterator[Candidates]:
        levels = zip(
            *(predictions.anchors, predictions.logits, predictions.deltas, predictions.centerness),
            strict=True,
        )
        for anchors, logits, deltas, centers in levels:
            yield self._decode_level(anchors, logits[index], deltas[index], centers[index])

    def decode_dense(
        self,
        anchors: list[Tensor],
        logits: list[Tensor],
        deltas: list[Tensor],
        centerness: list[Tensor],
    ) -> LevelPredictions:
        """Decode every anchor: the fields of `ATSSPredictions`, `anchors` as (A_l, 4) tensors."""
        transform, levels = self.criterion.box_transform, zip(deltas, anchors, strict=True)
        boxes = [apply_dense_deltas(transform, *level) for level in levels]
        scores = []
        for level, centers in zip(logits, centerness, strict=True):
            probability = level.sigmoid()
            kept = torch.where(probability > self.postprocess.score_thresh, probability, 0.0)
            scores.append(kept * centers.sigmoid().unsqueeze(-1))
        return LevelPredictions(boxes, scores)

    def _decode_level(
        self, anchors: Boxes, logits: Tensor, deltas: Tensor, centers: Tensor
    ) -> Candidates:
        probability = logits.float().sigmoid()
        # The threshold is for the class alone, as published: centerness only ranks.
        anchor, label = (probability > self.postprocess.score_thresh).nonzero(as_tuple=True)
        scores = probability[anchor, label] * centers[anchor].float().sigmoid()
        scores, best = self.postprocess.topk(scores)
        anchor, label = anchor[best], label[best]
        transform = self.criterion.box_transform
        boxes = transform.apply_deltas(deltas[anchor].float(), anchors.tensor[anchor])
        return boxes, scores, label


class ATSSLoss:
    """Assignment of anchors to boxes, and the three losses of ATSS.

    Args:
        topk: candidate anchors per box and level.
        bbox_reg_weights: weights of dx, dy, dw, dh.
        focal_loss_alpha: weight of positives in the focal loss.
        focal_loss_gamma: its exponent.
        reg_loss_weight: weight of the box loss.
    """

    def __init__(
        self,
        *,
        topk: int,
        bbox_reg_weights: Sequence[float],
        focal_loss_alpha: float,
        focal_loss_gamma: float,
        reg_loss_weight: float,
    ) -> None:
        self.topk, self.reg_loss_weight = topk, reg_loss_weight
        self.focal_loss = {"alpha": focal_loss_alpha, "gamma": focal_loss_gamma}
        self.box_transform = Box2BoxTransform(weights=tuple(bbox_reg_weights))

    def __call__(
        self, predictions: ATSSPredictions, instances: list[Instances]
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch, means over the positive anchors of all processes.

        Returns:
            "loss_cls" (focal), "loss_box_reg" (GIoU, weighted by centerness), "loss_centerness".
        """
        targets = self.targets(predictions.anchors, instances)
        # At least 1: a batch without boxes still learns background.
        count = reduce_mean(targets.positive.sum().float()).clamp(min=1)
        deltas = torch.cat(predictions.deltas, dim=1)[targets.positive].float()
        logits = torch.cat(predictions.centerness, dim=1)[targets.positive].float()
        weights = centerness(Boxes(targets.anchors).get_centers(), targets.boxes)
        loss_cls = dense_focal_loss(
            predictions.logits, targets.positive, targets.classes, **self.focal_loss
        )
        loss_centerness = F.binary_cross_entropy_with_logits(logits, weights, reduction="sum")
        return {
            "loss_cls": loss_cls / count,
            "loss_box_reg": self._box_loss(deltas, targets, weights),
            "loss_centerness": loss_centerness / count,
        }

    @torch.no_grad()
    def targets(self, anchors: list[Boxes], instances: list[Instances]) -> ATSSTargets:
        """Assign the anchors to the boxes of a batch."""
        boxes = Boxes.cat([image.gt_boxes for image in instances])
        classes = torch.cat([image.gt_classes for image in instances])
        counts = torch.tensor([len(image) for image in instances], device=boxes.device)
        images = torch.arange(len(instances), device=boxes.device).repeat_interleave(counts)
        matched = assign_atss(anchors, boxes, images, len(instances), self.topk)
        positive = matched >= 0
        box, anchor = matched[positive], positive.nonzero()[:, 1]
        return ATSSTargets(
            positive=positive,
            classes=classes[box],
            anchors=Boxes.cat(anchors).tensor[anchor],
            boxes=boxes.tensor[box],
        )

    def _box_loss(self, deltas: Tensor, targets: ATSSTargets, weights: Tensor) -> Tensor:
        boxes = self.box_transform.apply_deltas(deltas, targets.anchors)
        total = (giou_loss(boxes, targets.boxes) * weights).sum()
        # Divided by the sum of the weights, not by the number of positives, as in FCOS.
        norm = reduce_mean(weights.sum()).clamp(min=1e-6)
        return self.reg_loss_weight * total / norm
