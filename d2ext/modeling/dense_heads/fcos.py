"""FCOS: every cell predicts the distances to the sides of one box, and how good that box is.

Source: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", 2019, arXiv:1904.01355,
with the improvements of 2020, arXiv:2006.09214: centre sampling, GIoU, distances in strides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2ext.errors import ConfigError
from d2ext.modeling.dense_heads.dense_head import (
    DenseHead,
    LevelPredictions,
    cell_centers,
    flatten_cells,
    head_options,
)
from d2ext.modeling.dense_heads.postprocess import Candidates, PostProcess
from d2ext.modeling.dense_heads.registry import DENSE_HEAD_REGISTRY
from d2ext.modeling.dense_heads.tower import conv_tower
from d2ext.modeling.init import init_normal, prior_bias
from d2ext.modeling.losses import dense_focal_loss, ltrb_centerness, ltrb_iou, reduce_mean
from d2ext.modeling.matching import assign_fcos, distances, size_ranges
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Instances

QUALITIES = ("centerness", "iou")
BRANCHES = ("box", "class")
BOX_LOSSES = ("giou", "iou", "linear_iou")
# Keys of MODEL.FCOS, lower-case, that `FCOSLoss` takes; the others are the head's.
LOSS_OPTIONS = (
    *("sizes_of_interest", "center_radius", "quality", "box_loss"),
    *("focal_loss_alpha", "focal_loss_gamma"),
)


@dataclass
class FCOSPredictions:
    """Raw outputs over the levels, and the locations they refer to.

    Attributes:
        locations: per level, (L_l, 2) XY in pixels of the padded image.
        logits: per level, (B, L_l, classes).
        ltrb: per level, (B, L_l, 4) distances to the sides in strides, not negative.
        quality: per level, (B, L_l) logits.
    """

    locations: list[Tensor]
    logits: list[Tensor]
    ltrb: list[Tensor]
    quality: list[Tensor]

    @property
    def box_outputs(self) -> list[Tensor]:
        """The outputs that `FCOSHead.decode_boxes` takes."""
        return self.ltrb


@dataclass
class FCOSTargets:
    """What the locations of a batch learn.

    Attributes:
        positive: (B, L) bool.
        classes: (P,) int64, of the positive locations in order.
        ltrb: (P, 4) distances to the sides of their boxes, in strides.
    """

    positive: Tensor
    classes: Tensor
    ltrb: Tensor


@DENSE_HEAD_REGISTRY.register()
class FCOSHead(DenseHead):
    """Class, box and quality at every cell, from two towers.

    Args:
        input_shapes: shapes of the features by name.
        in_features: the levels to use, finest first.
        num_classes: classes, without background.
        num_shared_convs: 3x3 convolutions below both towers.
        num_cls_convs: 3x3 convolutions of the class tower.
        num_box_convs: 3x3 convolutions of the box tower.
        channels: output channels of these convolutions.
        deformable_tower: make the last convolution of each tower deformable.
        norm: norm of the towers, "GN" or another name of `detectron2.layers.get_norm`.
        level_scales: multiply the boxes of each level by a learnt factor.
        quality_branch: the tower that quality is predicted from, one of `BRANCHES`.
        thresh_with_quality: the score threshold is for class probability times quality.
        prior_prob: class probability that training starts from.
        criterion: the losses.
        postprocess: the thresholds of detections.
    """

    criterion: "FCOSLoss"
    box_outputs: ClassVar[int] = 4  # predicted per location; `decode_boxes` reads them
    predictions: ClassVar[type] = FCOSPredictions

    @configurable
    def __init__(
        self,
        *,
        input_shapes: dict[str, ShapeSpec],
        in_features: Sequence[str],
        num_classes: int,
        num_shared_convs: int,
        num_cls_convs: int,
        num_box_convs: int,
        channels: int,
        deformable_tower: bool,
        norm: str,
        level_scales: bool,
        quality_branch: str,
        thresh_with_quality: bool,
        prior_prob: float,
        criterion: "FCOSLoss",
        postprocess: PostProcess,
    ) -> None:
        super().__init__()
        _check_choice("QUALITY_BRANCH", quality_branch, BRANCHES)
        self.in_features, self.num_classes = tuple(in_features), num_classes
        self.quality_branch, self.thresh_with_quality = quality_branch, thresh_with_quality
        self.criterion, self.postprocess = criterion, postprocess

        shapes = [input_shapes[name] for name in self.in_features]
        self.strides = [int(shape.stride or 0) for shape in shapes]
        in_channels = int(shapes[0].channels or 0)
        levels = len(shapes)
        self.share_tower = conv_tower(in_channels, channels, num_shared_convs, norm, False, levels)
        # A tower without convolutions passes its input on, and so its width.
        width = channels if num_shared_convs else in_channels
        last = (norm, deformable_tower, levels)
        self.cls_tower = conv_tower(width, channels, num_cls_convs, *last)
        self.bbox_tower = conv_tower(width, channels, num_box_convs, *last)
        cls_width, box_width = (channels if n else width for n in (num_cls_convs, num_box_convs))
        self.cls_logits = nn.Conv2d(cls_width, num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(box_width, self.box_outputs, 3, padding=1)
        quality_width = box_width if quality_branch == "box" else cls_width
        self.quality = nn.Conv2d(quality_width, 1, 3, padding=1)
        self.scales = nn.ParameterList(torch.ones(1) for _ in shapes if level_scales)
        for predictor in (self.cls_logits, self.bbox_pred, self.quality):
            init_normal(predictor)
        init_normal(self.cls_logits, bias=prior_bias(prior_prob))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> dict[str, Any]:
        options = head_options(cfg, cfg.MODEL.FCOS, input_shapes)
        strides = [int(input_shapes[name].stride or 0) for name in options["in_features"]]
        losses = {name: options.pop(name) for name in LOSS_OPTIONS}
        return {**options, "criterion": cls.build_criterion(strides=strides, **losses)}

    @staticmethod
    def build_criterion(**options: Any) -> "FCOSLoss":
        return FCOSLoss(**options)

    def forward(self, features: dict[str, Tensor]) -> Any:
        """Predict at every cell of the features (B, C, h, w) by name: `self.predictions`."""
        levels = [self._predict(features[name], i) for i, name in enumerate(self.in_features)]
        return self.predictions(*map(list, zip(*levels, strict=True)))

    def _predict(self, feature: Tensor, i: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return locations, logits, box outputs and quality of the level `i`."""
        level = self.share_tower(feature, i)
        for_class, for_box = self.cls_tower(level, i), self.bbox_tower(level, i)
        for_quality = for_box if self.quality_branch == "box" else for_class
        box = self.bbox_pred(for_box)
        box = self.activate_boxes(self.scales[i] * box if self.scales else box)
        return (
            cell_centers(level, self.strides[i]),
            flatten_cells(self.cls_logits(for_class), self.num_classes),
            flatten_cells(box, self.box_outputs),
            flatten_cells(self.quality(for_quality), 1).squeeze(-1),
        )

    @staticmethod
    def activate_boxes(outputs: Tensor) -> Tensor:
        """Map (B, box_outputs, H, W) raw outputs to distances in strides."""
        # ReLU, not the exp of 2019: distances in strides are of similar size on every level.
        return F.relu(outputs)

    @staticmethod
    def decode_boxes(points: Tensor, ltrb: Tensor, stride: int) -> Tensor:
        """Decode boxes (..., 4) in pixels at points (..., 2) from distances in strides."""
        return _ltrb_boxes(points, ltrb * stride)

    def candidates(self, predictions: Any, index: int) -> Iterator[Candidates]:
        # In the order of the fields: locations, logits, box outputs, quality.
        levels = zip(self.strides, *vars(predictions).values(), strict=True)
        for stride, points, logits, box, quality in levels:
            yield self._decode_level(stride, points, logits[index], box[index], quality[index])

    def decode_dense(
        self,
        locations: list[Tensor],
        logits: list[Tensor],
        ltrb: list[Tensor],
        quality: list[Tensor],
    ) -> LevelPredictions:
        """Decode every location: the fields of `FCOSPredictions`."""
        levels = zip(locations, ltrb, self.strides, strict=True)
        boxes = [self.decode_boxes(*level) for level in levels]
        scores = []
        for level, own in zip(logits, quality, strict=True):
            kept, product = self._scores(level, own)
            scores.append(torch.where(kept, product, 0.0).sqrt())
        return LevelPredictions(boxes, scores)

    def _decode_level(
        self, stride: int, points: Tensor, logits: Tensor, box: Tensor, quality: Tensor
    ) -> Candidates:
        kept, product = self._scores(logits.float(), quality.float())
        location, label = kept.nonzero(as_tuple=True)
        scores, best = self.postprocess.topk(product[location, label])
        location, label = location[best], label[best]
        boxes = self.decode_boxes(points[location], box[location].float(), stride)
        # The geometric mean of probability and quality, as published: it ranks like their product
        # but keeps the scale of a probability.
        return boxes, scores.sqrt(), label

    def _scores(self, logits: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Return what passes the threshold, and probability times quality, both like `logits`."""
        probability = logits.sigmoid()
        product = probability * quality.sigmoid().unsqueeze(-1)
        compared = product if self.thresh_with_quality else probability
        return compared > self.postprocess.score_thresh, product


class FCOSLoss:
    """Assignment of locations to boxes, and the three losses of FCOS.

    Args:
        strides: strides of the levels, in pixels.
        sizes_of_interest: distances to the farthest side at which boxes go to the next level, in
            pixels; one fewer than levels.
        center_radius: half the side of the region around a box's centre that learns it, in
            strides; 0 takes the whole box.
        quality: what the third output estimates, one of `QUALITIES`.
        box_loss: one of `BOX_LOSSES`.
        focal_loss_alpha: weight of positives in the focal loss.
        focal_loss_gamma: its exponent.
    """

    qualities: ClassVar[Sequence[str]] = QUALITIES
    box_losses: ClassVar[Sequence[str]] = BOX_LOSSES

    def __init__(
        self,
        *,
        strides: Sequence[int],
        sizes_of_interest: Sequence[float],
        center_radius: float,
        quality: str,
        box_loss: str,
        focal_loss_alpha: float,
        focal_loss_gamma: float,
    ) -> None:
        _check_choice("QUALITY", quality, self.qualities)
        _check_choice("BOX_LOSS", box_loss, self.box_losses)
        if len(sizes_of_interest) != len(strides) - 1:
            raise ConfigError(
                f"MODEL.FCOS.SIZES_OF_INTEREST: {len(strides)} levels need {len(strides) - 1} "
                f"limits between them, not {len(sizes_of_interest)}"
            )
        self.strides, self.center_radius = strides, center_radius
        self.ranges = size_ranges(sizes_of_interest)
        self.quality, self.box_loss = quality, box_loss
        self.focal_loss = {"alpha": focal_loss_alpha, "gamma": focal_loss_gamma}

    def __call__(self, predictions: Any, instances: list[Instances]) -> dict[str, Tensor]:
        """Compute the losses of a batch, means over the positive locations of all processes.

        Returns:
            "loss_cls" (focal), "loss_box_reg", and "loss_centerness" or "loss_iou".
        """
        targets = self.targets(predictions.locations, instances)
        # At least 1: a batch without boxes still learns background.
        count = reduce_mean(targets.positive.sum().float()).clamp(min=1)
        outputs = torch.cat(predictions.box_outputs, dim=1)[targets.positive].float()
        quality = torch.cat(predictions.quality, dim=1)[targets.positive].float()
        box_loss, wanted = self._box_loss(outputs, targets, count)
        quality_loss = F.binary_cross_entropy_with_logits(quality, wanted, reduction="sum")
        loss_cls = dense_focal_loss(
            predictions.logits, targets.positive, targets.classes, **self.focal_loss
        )
        return {
            "loss_cls": loss_cls / count,
            "loss_box_reg": box_loss,
            f"loss_{self.quality}": quality_loss / count,
        }

    @torch.no_grad()
    def targets(self, locations: list[Tensor], instances: list[Instances]) -> Any:
        """Assign the locations to the boxes of each image."""
        points, stride = torch.cat(locations), self._stride_of_locations(locations)
        positive, classes, ltrb = [], [], []
        for image in instances:
            boxes = image.gt_boxes.tensor
            matched = assign_fcos(locations, self.strides, self.ranges, boxes, self.center_radius)
            chosen = matched >= 0
            positive.append(chosen)
            classes.append(image.gt_classes[matched[chosen]])
            sides = distances(points[chosen], boxes[matched[chosen]])
            ltrb.append(sides / stride[chosen])
        return FCOSTargets(torch.stack(positive), torch.cat(classes), torch.cat(ltrb))

    def _stride_of_locations(self, locations: list[Tensor]) -> Tensor:
        """Return (L, 1) strides in pixels."""
        levels = zip(locations, self.strides, strict=True)
        return torch.cat([points.new_full((len(points), 1), stride) for points, stride in levels])

    def _box_loss(self, ltrb: Tensor, targets: Any, count: Tensor) -> tuple[Tensor, Tensor]:
        """Return the box loss, and the (P,) quality that the third output has to predict."""
        wanted = targets.ltrb
        iou, giou = ltrb_iou(ltrb, wanted)
        losses = {"giou": 1 - giou, "iou": -iou.log(), "linear_iou": 1 - iou}[self.box_loss]
        if self.quality == "iou":
            return losses.sum() / count, iou.detach()
        weights = ltrb_centerness(wanted)
        norm = reduce_mean(weights.sum()).clamp(min=1e-6)
        return (losses * weights).sum() / norm, weights


def _ltrb_boxes(points: Tensor, ltrb: Tensor) -> Tensor:
    """Return XYXY boxes (..., 4) from points (..., 2) and distances (..., 4), in pixels."""
    before, behind = ltrb.split(2, dim=-1)
    return torch.cat((points - before, points + behind), dim=-1)


def _check_choice(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"MODEL.FCOS.{key}: {value!r} is none of {', '.join(known)}")
