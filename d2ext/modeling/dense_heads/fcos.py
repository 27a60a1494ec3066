"""FCOS: every cell predicts the distances to the sides of one box, and how good that box is.

Source: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", 2019, arXiv:1904.01355,
with the improvements of 2020, arXiv:2006.09214: centre sampling, GIoU, distances in strides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2ext.errors import ConfigError
from d2ext.modeling.dense_heads.common import (
    best_detections,
    cell_centers,
    conv_tower,
    flatten_cells,
    prior_bias,
)
from d2ext.modeling.dense_heads.registry import DENSE_HEAD_REGISTRY
from d2ext.modeling.init import init_normal
from d2ext.modeling.losses import class_loss, ltrb_centerness, ltrb_iou, mean_over_processes
from d2ext.modeling.matching import distances, match_by_location, size_ranges
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Instances

QUALITIES = ("centerness", "iou")
BRANCHES = ("box", "class")
BOX_LOSSES = ("giou", "iou", "linear_iou")


@dataclass
class FCOSPredictions:
    """Raw outputs over the levels, and the locations they refer to.

    Attributes:
        locations: of each level, (L_l, 2) XY in pixels of the padded image.
        logits: of each level, (B, L_l, classes).
        ltrb: of each level, (B, L_l, 4) distances to the sides in strides, not negative.
        quality: of each level, (B, L_l) logits.
    """

    locations: list[Tensor]
    logits: list[Tensor]
    ltrb: list[Tensor]
    quality: list[Tensor]


@dataclass
class FCOSTargets:
    """What the locations of a batch are to predict.

    Attributes:
        positive: (B, L) bool.
        classes: (P,) int64, of the positive locations in order.
        ltrb: (P, 4) distances to the sides of their boxes, in strides.
    """

    positive: Tensor
    classes: Tensor
    ltrb: Tensor


@DENSE_HEAD_REGISTRY.register()
class FCOSHead(nn.Module):
    """Class, box and quality at every cell, from two towers.

    Args:
        input_shapes: of the features by name.
        in_features: the levels to use, finest first.
        num_classes: classes, without background.
        num_shared_convs: 3x3 convolutions below both towers.
        num_cls_convs: 3x3 convolutions of the tower for the classes.
        num_box_convs: of that for the boxes.
        channels: their output channels.
        deformable_tower: the last one of each tower is deformable.
        norm: of the towers, "GN" or another name of `detectron2.layers.get_norm`.
        level_scales: the boxes of each level are multiplied by a learnt number.
        sizes_of_interest: distances to the farthest side at which boxes go to the next level, in
            pixels; one fewer than levels.
        center_radius: half the side of the region around a box's centre that learns it, in
            strides; 0 takes the whole box.
        quality: what the third output estimates, one of `QUALITIES`.
        quality_branch: the tower that it stands on, one of `BRANCHES`.
        box_loss: one of `BOX_LOSSES`.
        prior_prob: class probability that training starts from.
        focal_loss_alpha: weight of positives in the focal loss.
        focal_loss_gamma: its exponent.
        score_thresh: lowest class probability of a detection.
        thresh_with_quality: compare its product with the quality instead.
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
        num_classes: int,
        num_shared_convs: int,
        num_cls_convs: int,
        num_box_convs: int,
        channels: int,
        deformable_tower: bool,
        norm: str,
        level_scales: bool,
        sizes_of_interest: Sequence[float],
        center_radius: float,
        quality: str,
        quality_branch: str,
        box_loss: str,
        prior_prob: float,
        focal_loss_alpha: float,
        focal_loss_gamma: float,
        score_thresh: float,
        thresh_with_quality: bool,
        topk_candidates: int,
        nms_thresh: float,
        max_detections: int,
    ) -> None:
        super().__init__()
        _check_choice("QUALITY", quality, QUALITIES)
        _check_choice("QUALITY_BRANCH", quality_branch, BRANCHES)
        _check_choice("BOX_LOSS", box_loss, BOX_LOSSES)
        if len(sizes_of_interest) != len(in_features) - 1:
            raise ConfigError(
                f"MODEL.FCOS.SIZES_OF_INTEREST: {len(in_features)} levels need "
                f"{len(in_features) - 1} limits between them, not {len(sizes_of_interest)}"
            )
        self.in_features, self.num_classes = tuple(in_features), num_classes
        self.ranges, self.center_radius = size_ranges(sizes_of_interest), center_radius
        self.quality_kind, self.quality_branch, self.box_loss = quality, quality_branch, box_loss
        self.focal_loss_alpha, self.focal_loss_gamma = focal_loss_alpha, focal_loss_gamma
        self.score_thresh, self.thresh_with_quality = score_thresh, thresh_with_quality
        self.topk_candidates, self.nms_thresh = topk_candidates, nms_thresh
        self.max_detections = max_detections

        shapes = [input_shapes[name] for name in self.in_features]
        self.strides = [int(shape.stride or 0) for shape in shapes]
        in_channels = int(shapes[0].channels or 0)
        levels = len(shapes)
        self.share_tower = conv_tower(in_channels, channels, num_shared_convs, norm, False, levels)
        width = channels if num_shared_convs else in_channels
        last = (norm, deformable_tower, levels)
        self.cls_tower = conv_tower(width, channels, num_cls_convs, *last)
        self.bbox_tower = conv_tower(width, channels, num_box_convs, *last)
        cls_width, box_width = (channels if n else width for n in (num_cls_convs, num_box_convs))
        self.cls_logits = nn.Conv2d(cls_width, num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(box_width, 4, 3, padding=1)
        quality_width = box_width if quality_branch == "box" else cls_width
        self.quality = nn.Conv2d(quality_width, 1, 3, padding=1)
        self.scales = nn.ParameterList(torch.ones(1) for _ in shapes if level_scales)
        for predictor in (self.cls_logits, self.bbox_pred, self.quality):
            init_normal(predictor)
        init_normal(self.cls_logits, bias=prior_bias(prior_prob))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> dict:
        fcos = cfg.MODEL.FCOS
        return {
            "input_shapes": input_shapes,
            "in_features": fcos.IN_FEATURES,
            "num_classes": fcos.NUM_CLASSES,
            "num_shared_convs": fcos.NUM_SHARED_CONVS,
            "num_cls_convs": fcos.NUM_CLS_CONVS,
            "num_box_convs": fcos.NUM_BOX_CONVS,
            "channels": fcos.CHANNELS,
            "deformable_tower": fcos.DEFORMABLE_TOWER,
            "norm": fcos.NORM,
            "level_scales": fcos.LEVEL_SCALES,
            "sizes_of_interest": fcos.SIZES_OF_INTEREST,
            "center_radius": fcos.CENTER_RADIUS,
            "quality": fcos.QUALITY,
            "quality_branch": fcos.QUALITY_BRANCH,
            "box_loss": fcos.BOX_LOSS,
            "prior_prob": fcos.PRIOR_PROB,
            "focal_loss_alpha": fcos.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": fcos.FOCAL_LOSS_GAMMA,
            "score_thresh": fcos.SCORE_THRESH_TEST,
            "thresh_with_quality": fcos.THRESH_WITH_QUALITY,
            "topk_candidates": fcos.TOPK_CANDIDATES_TEST,
            "nms_thresh": fcos.NMS_THRESH_TEST,
            "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    def forward(self, features: dict[str, Tensor]) -> FCOSPredictions:
        """Features (B, C, h, w) by name -> predictions at every cell."""
        found = FCOSPredictions([], [], [], [])
        for i, (name, stride) in enumerate(zip(self.in_features, self.strides, strict=True)):
            level = self.share_tower(features[name], i)
            about_class, about_box = self.cls_tower(level, i), self.bbox_tower(level, i)
            about_quality = about_box if self.quality_branch == "box" else about_class
            ltrb = self.bbox_pred(about_box)
            ltrb = F.relu(self.scales[i] * ltrb if self.scales else ltrb)
            found.locations.append(cell_centers(level, stride))
            found.logits.append(flatten_cells(self.cls_logits(about_class), self.num_classes))
            found.ltrb.append(flatten_cells(ltrb, 4))
            found.quality.append(flatten_cells(self.quality(about_quality), 1).squeeze(-1))
        return found

    def losses(self, predictions: FCOSPredictions, instances: list[Instances]) -> dict[str, Tensor]:
        """Losses of a batch, means over the positive locations of all processes.

        Args:
            instances: of each image, with `gt_boxes` and `gt_classes`; there may be none.
        Returns:
            "loss_cls" (focal), "loss_box_reg", and "loss_centerness" or "loss_iou".
        """
        targets = self.targets(predictions.locations, instances)
        count = mean_over_processes(targets.positive.sum().float()).clamp(min=1)
        ltrb = torch.cat(predictions.ltrb, dim=1)[targets.positive].float()
        quality = torch.cat(predictions.quality, dim=1)[targets.positive].float()
        iou, giou = ltrb_iou(ltrb, targets.ltrb)
        box_losses = {"giou": 1 - giou, "iou": -iou.log(), "linear_iou": 1 - iou}[self.box_loss]
        if self.quality_kind == "iou":
            wanted, box_loss = iou.detach(), box_losses.sum() / count
        else:
            wanted = ltrb_centerness(targets.ltrb)
            norm = mean_over_processes(wanted.sum()).clamp(min=1e-6)
            box_loss = (box_losses * wanted).sum() / norm
        quality_loss = F.binary_cross_entropy_with_logits(quality, wanted, reduction="sum") / count
        loss_cls = class_loss(
            predictions.logits,
            targets.positive,
            targets.classes,
            self.focal_loss_alpha,
            self.focal_loss_gamma,
        )
        return {
            "loss_cls": loss_cls / count,
            "loss_box_reg": box_loss,
            f"loss_{self.quality_kind}": quality_loss,
        }

    @torch.no_grad()
    def targets(self, locations: list[Tensor], instances: list[Instances]) -> FCOSTargets:
        """Match the locations to the boxes of each image."""
        points = torch.cat(locations)
        levels = zip(locations, self.strides, strict=True)
        stride = torch.cat([level.new_full((len(level), 1), step) for level, step in levels])
        positive, classes, ltrb = [], [], []
        for image in instances:
            boxes = image.gt_boxes.tensor
            matched = match_by_location(
                locations, self.strides, self.ranges, boxes, self.center_radius
            )
            chosen = matched >= 0
            positive.append(chosen)
            classes.append(image.gt_classes[matched[chosen]])
            sides = distances(points[chosen], boxes[matched[chosen]])
            ltrb.append(sides / stride[chosen])
        return FCOSTargets(torch.stack(positive), torch.cat(classes), torch.cat(ltrb))

    def decode(
        self, predictions: FCOSPredictions, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """Detections of each image: `pred_boxes` in its pixels, `scores`, `pred_classes`.

        Args:
            image_sizes: (height, width) of each image without padding.
        """
        return [
            self._decode_image(predictions, index, size) for index, size in enumerate(image_sizes)
        ]

    def _decode_image(
        self, predictions: FCOSPredictions, index: int, size: tuple[int, int]
    ) -> Instances:
        levels = zip(
            self.strides,
            predictions.locations,
            (logits[index] for logits in predictions.logits),
            (ltrb[index] for ltrb in predictions.ltrb),
            (quality[index] for quality in predictions.quality),
            strict=True,
        )
        found = (self._decode_level(*level) for level in levels)
        return best_detections(found, size, self.nms_thresh, self.max_detections)

    def _decode_level(
        self, stride: int, points: Tensor, logits: Tensor, ltrb: Tensor, quality: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (N, 4), scores (N,) and classes (N,) of one level, the best `topk_candidates`."""
        probability = logits.float().sigmoid()
        product = probability * quality.float().sigmoid()[:, None]
        compared = product if self.thresh_with_quality else probability
        location, label = (compared > self.score_thresh).nonzero(as_tuple=True)
        scores = product[location, label]
        scores, best = scores.topk(min(self.topk_candidates, len(scores)))
        location, label = location[best], label[best]
        before, behind = (ltrb[location].float() * stride).split(2, dim=1)
        boxes = torch.cat((points[location] - before, points[location] + behind), dim=1)
        return boxes, scores.sqrt(), label


def _check_choice(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"MODEL.FCOS.{key}: {value!r} is none of {', '.join(known)}")
