"""RetinaNet (Lin et al. 2017, arXiv:1708.02002)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import torch
from fvcore.nn import sigmoid_focal_loss_jit
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import configurable
from detectron2.layers import CycleBatchNormList, ShapeSpec, cat, get_norm
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage

from ..anchor_generator import build_anchor_generator
from ..backbone import Backbone, build_backbone
from ..box_regression import Box2BoxTransform, _dense_box_regression_loss
from ..matcher import Matcher
from .build import META_ARCH_REGISTRY
from .dense_detector import DenseDetector, permute_to_N_HWA_K

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = ["RetinaNet", "permute_to_N_HWA_K"]


@META_ARCH_REGISTRY.register()
class RetinaNet(DenseDetector):
    """RetinaNet: focal loss on the classes of anchors, box loss on the foreground anchors.

    Args:
        backbone, head, head_in_features, pixel_mean, pixel_std: as in `DenseDetector`; the head
            predicts logits and deltas.
        anchor_generator: called with the features; returns `Boxes` per level.
        box2box_transform: box transform between anchors and boxes.
        anchor_matcher: labels anchors by their IoU with the ground truth.
        num_classes: number of classes without the background.
        focal_loss_alpha, focal_loss_gamma: parameters of the focal loss.
        smooth_l1_beta, box_reg_loss_type: of the box loss: "smooth_l1" or "giou".
        test_score_thresh: minimum score (exclusive) of a detection.
        test_topk_candidates: number of candidates per level before NMS.
        test_nms_thresh: IoU threshold of NMS.
        max_detections_per_image: number of detections to keep.
        vis_period: kept for subclasses that call `visualize_training`.
        input_format: channel order of the images, for its drawing.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str] | None,
        anchor_generator: nn.Module,
        box2box_transform: Box2BoxTransform,
        anchor_matcher: Matcher,
        num_classes: int,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.5,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        vis_period: int = 0,
        input_format: str = "BGR",
    ) -> None:
        super().__init__(
            backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std
        )
        self.num_classes = num_classes
        self.input_format, self.vis_period = input_format, vis_period
        self.anchor_generator, self.anchor_matcher = anchor_generator, anchor_matcher
        self.box2box_transform = box2box_transform
        # Losses
        self.focal_loss_alpha, self.focal_loss_gamma = focal_loss_alpha, focal_loss_gamma
        self.box_reg_loss_type, self.smooth_l1_beta = box_reg_loss_type, smooth_l1_beta
        # Inference
        self.test_score_thresh, self.test_nms_thresh = test_score_thresh, test_nms_thresh
        self.test_topk_candidates = test_topk_candidates
        self.max_detections_per_image = max_detections_per_image

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        section = cfg.MODEL.RETINANET
        backbone = build_backbone(cfg)
        available = backbone.output_shape()
        shapes = [available[name] for name in section.IN_FEATURES]
        matcher = Matcher(
            section.IOU_THRESHOLDS, section.IOU_LABELS, allow_low_quality_matches=True
        )
        return {
            "backbone": backbone,
            "head": RetinaNetHead(cfg, shapes),
            "head_in_features": section.IN_FEATURES,
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "box2box_transform": Box2BoxTransform(weights=section.BBOX_REG_WEIGHTS),
            "anchor_matcher": matcher,
            "num_classes": section.NUM_CLASSES,
            "focal_loss_alpha": section.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": section.FOCAL_LOSS_GAMMA,
            "smooth_l1_beta": section.SMOOTH_L1_LOSS_BETA,
            "box_reg_loss_type": section.BBOX_REG_LOSS_TYPE,
            "test_score_thresh": section.SCORE_THRESH_TEST,
            "test_topk_candidates": section.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": section.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "vis_period": cfg.VIS_PERIOD,
            "input_format": cfg.INPUT.FORMAT,
        }

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: list[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        logits, deltas = self._transpose_dense_predictions(predictions, [self.num_classes, 4])
        anchors = self.anchor_generator(features)
        labels, boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors, logits, labels, deltas, boxes)

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute "loss_cls" and "loss_box_reg", over a running mean of the foreground's size.

        Args:
            anchors: boxes per level, R in total.
            pred_logits, pred_anchor_deltas: per level (N, Ri, num_classes) and (N, Ri, 4).
            gt_labels, gt_boxes: per image (R,) and (R, 4), from `label_anchors`.
        """
        labels = torch.stack(gt_labels)
        foreground = (labels >= 0) & (labels != self.num_classes)
        count = int(foreground.sum())
        get_event_storage().put_scalar("num_pos_anchors", count / len(gt_labels))
        # A running mean is more stable than the count of one batch, which may be 0.
        normalizer = self._ema_update("loss_normalizer", max(count, 1), 100)
        used = labels >= 0
        # The background is class num_classes and has no logit: drop its column.
        one_hot = F.one_hot(labels[used], self.num_classes + 1)[:, :-1]
        logits = cat(pred_logits, dim=1)[used]
        class_loss = sigmoid_focal_loss_jit(
            logits,
            one_hot.to(logits.dtype),
            alpha=self.focal_loss_alpha,
            gamma=self.focal_loss_gamma,
            reduction="sum",
        )
        box_loss = _dense_box_regression_loss(
            anchors,
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            foreground,
            box_reg_loss_type=self.box_reg_loss_type,
            smooth_l1_beta=self.smooth_l1_beta,
        )
        return {"loss_cls": class_loss / normalizer, "loss_box_reg": box_loss / normalizer}

    @torch.no_grad()
    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Assign to every anchor of each image a class and a matched box.

        Returns per image (R,) int64 classes, with -1 for ignored and num_classes for background,
        and (R, 4) boxes.
        """
        all_anchors = Boxes.cat(anchors)
        pairs = [self._label_image(all_anchors, truth) for truth in gt_instances]
        return [labels for labels, _ in pairs], [boxes for _, boxes in pairs]

    def _label_image(self, anchors: Boxes, truth: Instances) -> tuple[Tensor, Tensor]:
        quality = pairwise_iou(truth.gt_boxes, anchors)
        matches, kinds = self.anchor_matcher(quality)
        if len(truth) == 0:
            labels = torch.full_like(matches, self.num_classes)
            return labels, torch.zeros_like(anchors.tensor)
        labels = truth.gt_classes[matches]
        labels[kinds == 0] = self.num_classes
        labels[kinds == -1] = -1
        return labels, truth.gt_boxes.tensor[matches]

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: list[list[Tensor]]
    ) -> list[Instances]:
        logits, deltas = self._transpose_dense_predictions(predictions, [self.num_classes, 4])
        anchors = self.anchor_generator(features)
        return [
            self.inference_single_image(
                anchors, [x[i].sigmoid() for x in logits], [x[i] for x in deltas], size
            )
            for i, size in enumerate(images.image_sizes)
        ]


class RetinaNetHead(nn.Module):
    """Two towers of 3x3 convolutions, for classes and for boxes, shared by all levels.

    Args:
        input_shape: shape of each level; all have the same channels.
        num_classes: number of classes without the background.
        num_anchors: anchors per position.
        conv_dims: output channels of each convolution of a tower.
        norm: normalisation, see `get_norm`; "BN" and "SyncBN" keep statistics per level.
        prior_prob: initial probability of the foreground.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: list[ShapeSpec],
        num_classes: int,
        num_anchors: int,
        conv_dims: list[int],
        norm: str = "",
        prior_prob: float = 0.01,
    ) -> None:
        super().__init__()
        self._num_features = len(input_shape)
        channels = [cast(int, input_shape[0].channels), *conv_dims]
        self.cls_subnet = self._tower(channels, norm)
        self.bbox_subnet = self._tower(channels, norm)
        # Without it the background's loss dominates the first iterations (section 4.1).
        prior_logit = -math.log((1 - prior_prob) / prior_prob)
        self.cls_score = _conv(channels[-1], num_anchors * num_classes, bias=prior_logit)
        self.bbox_pred = _conv(channels[-1], num_anchors * 4)

    def _tower(self, channels: list[int], norm: str) -> nn.Sequential:
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers.append(_conv(before, after))
            layer = self._norm(norm, after)
            layers += [nn.ReLU()] if layer is None else [layer, nn.ReLU()]
        return nn.Sequential(*layers)

    def _norm(self, norm: str, channels: int) -> nn.Module | None:
        if norm not in ("BN", "SyncBN"):
            return get_norm(norm, channels)
        kind = nn.BatchNorm2d if norm == "BN" else nn.SyncBatchNorm
        # Levels have different statistics; mixed ones would be wrong at inference.
        return CycleBatchNormList(self._num_features, bn_class=kind, num_features=channels)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        section = cfg.MODEL.RETINANET
        generator: Any = build_anchor_generator(cfg, input_shape)
        num_anchors = set(generator.num_cell_anchors)
        if len(num_anchors) != 1:
            raise ValueError(f"all levels need as many anchors at a position, got {num_anchors}")
        return {
            "input_shape": input_shape,
            "num_classes": section.NUM_CLASSES,
            "num_anchors": num_anchors.pop(),
            "conv_dims": [input_shape[0].channels] * section.NUM_CONVS,
            "norm": section.NORM,
            "prior_prob": section.PRIOR_PROB,
        }

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Predict logits and deltas per level.

        Their shapes are (N, anchors * classes, H, W) and (N, anchors * 4, H, W).
        """
        if len(features) != self._num_features:
            raise ValueError(f"{len(features)} features for a head of {self._num_features} levels")
        logits = [self.cls_score(self.cls_subnet(feature)) for feature in features]
        deltas = [self.bbox_pred(self.bbox_subnet(feature)) for feature in features]
        return logits, deltas


def _conv(in_channels: int, out_channels: int, bias: float = 0.0) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.get_parameter("bias"), bias)
    return conv
