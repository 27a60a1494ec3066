"""FCOS: fully convolutional one-stage detection (Tian et al. 2019, arXiv:1904.01355)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from fvcore.nn import sigmoid_focal_loss_jit
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.layers import ShapeSpec, cat
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage

from ..anchor_generator import DefaultAnchorGenerator
from ..backbone import Backbone
from ..box_regression import Box2BoxTransformLinear, _dense_box_regression_loss
from .dense_detector import DenseDetector
from .retinanet import RetinaNetHead, _conv

__all__ = ["FCOS"]


class FCOS(DenseDetector):
    """FCOS: predicts a class, the distances to the sides of a box and centre-ness per position.

    Each position is an anchor: a square with the side of the level's stride around it.

    Args:
        backbone, head, head_in_features, pixel_mean, pixel_std: as in `DenseDetector`; the head
            predicts logits, distances and centre-ness.
        box2box_transform: box transform; by default distances in units of the stride.
        num_classes: number of classes without the background.
        center_sampling_radius: in strides; foreground positions are at most so far from the box's
            centre, along each axis.
        focal_loss_alpha, focal_loss_gamma: parameters of the focal loss.
        test_score_thresh: minimum score (exclusive) of a detection, the geometric mean of class
            probability and centre-ness.
        test_topk_candidates, test_nms_thresh, max_detections_per_image: as in `RetinaNet`.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str] | None = None,
        box2box_transform: Any = None,
        num_classes: int,
        center_sampling_radius: float = 1.5,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        test_score_thresh: float = 0.2,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.6,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__(
            backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std
        )
        self.num_classes = num_classes
        self.center_sampling_radius = center_sampling_radius
        self.focal_loss_alpha, self.focal_loss_gamma = focal_loss_alpha, focal_loss_gamma
        self.test_score_thresh, self.test_nms_thresh = test_score_thresh, test_nms_thresh
        self.test_topk_candidates = test_topk_candidates
        self.max_detections_per_image = max_detections_per_image
        shapes = backbone.output_shape()
        strides = [cast(int, shapes[name].stride) for name in self.head_in_features]
        if box2box_transform is None:
            box2box_transform = Box2BoxTransformLinear(normalize_by_size=True)
        self.box2box_transform = box2box_transform
        self.anchor_generator = DefaultAnchorGenerator(
            sizes=[[stride] for stride in strides], aspect_ratios=[1.0], strides=strides, offset=0.5
        )

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: list[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        logits, deltas, centerness = self._transpose_dense_predictions(
            predictions, [self.num_classes, 4, 1]
        )
        anchors = self.anchor_generator(features)
        labels, boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors, logits, labels, deltas, boxes, centerness)

    @torch.no_grad()
    def _match_anchors(self, gt_boxes: Boxes, anchors: list[Boxes]) -> Tensor:
        """Match boxes and anchors: (M, R), positive where they match, larger for smaller boxes."""
        strides = [level.tensor[:, 2] - level.tensor[:, 0] for level in anchors]
        # 4 to 8 strides are the published size ranges: 64 to 128 pixels for P4, 128 to 256 for P5.
        lower = [4 * stride for stride in strides]
        upper = [8 * stride for stride in strides]
        # The finest level also has all smaller boxes, the coarsest all larger ones.
        lower[0] = torch.zeros_like(lower[0])
        upper[-1] = torch.full_like(upper[-1], float("inf"))
        centers = Boxes.cat(anchors).get_centers()
        boxes = gt_boxes.tensor[:, None]  # (M, 1, 4)
        sides = torch.cat([centers - boxes[..., :2], boxes[..., 2:] - centers], dim=2)
        furthest = sides.amax(dim=2)
        match = (sides.amin(dim=2) > 0) & (furthest > cat(lower)) & (furthest < cat(upper))
        shift = (centers - gt_boxes.get_centers()[:, None]).abs().amax(dim=2)
        match &= shift < self.center_sampling_radius * cat(strides)
        # The smallest box wins; 1e8 pixels exceed any area, so that matches stay positive.
        return match * (1e8 - gt_boxes.area()[:, None])

    @torch.no_grad()
    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Assign to every position of each image a class and a matched box.

        Returns per image (R,) int64 classes, with num_classes for background, and (R, 4) boxes.
        """
        pairs = [self._label_image(anchors, truth) for truth in gt_instances]
        return [labels for labels, _ in pairs], [boxes for _, boxes in pairs]

    def _label_image(self, anchors: list[Boxes], truth: Instances) -> tuple[Tensor, Tensor]:
        count = sum(len(level) for level in anchors)
        if len(truth) == 0:
            boxes = truth.gt_boxes.tensor
            labels = truth.gt_classes.new_full((count,), self.num_classes)
            return labels, boxes.new_zeros((count, 4))
        quality, matches = self._match_anchors(truth.gt_boxes, anchors).max(dim=0)
        labels = truth.gt_classes[matches]
        # A quality of 0: the position matches no box.
        labels[quality < 1e-5] = self.num_classes
        return labels, truth.gt_boxes.tensor[matches]

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
        pred_centerness: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute "loss_fcos_cls", "loss_fcos_loc" and "loss_fcos_ctr".

        They are normalised by a running mean of the number of foreground positions.

        Args:
            anchors: boxes per level, R in total.
            pred_logits, pred_anchor_deltas, pred_centerness: per level (N, Ri, num_classes),
                (N, Ri, 4) and (N, Ri, 1).
            gt_labels, gt_boxes: per image (R,) and (R, 4), from `label_anchors`.
        """
        labels = torch.stack(gt_labels)
        foreground = (labels >= 0) & (labels != self.num_classes)
        count = int(foreground.sum())
        get_event_storage().put_scalar("num_pos_anchors", count / len(gt_labels))
        # 300 and, in RetinaNet, 100 are Detectron2's initial values.
        normalizer = self._ema_update("loss_normalizer", max(count, 1), 300)
        # The background is class num_classes and has no logit: drop its column.
        one_hot = F.one_hot(labels, self.num_classes + 1)[:, :, :-1]
        logits = cat(pred_logits, dim=1)
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
            box_reg_loss_type="giou",
        )
        targets = self.compute_ctrness_targets(anchors, gt_boxes)
        centerness_loss = F.binary_cross_entropy_with_logits(
            cat(pred_centerness, dim=1).squeeze(2)[foreground],
            targets[foreground],
            reduction="sum",
        )
        losses = {
            "loss_fcos_cls": class_loss,
            "loss_fcos_loc": box_loss,
            "loss_fcos_ctr": centerness_loss,
        }
        return {name: loss / normalizer for name, loss in losses.items()}

    def compute_ctrness_targets(self, anchors: list[Boxes], gt_boxes: list[Tensor]) -> Tensor:
        """Compute centre-ness targets (N, R): 1 at a box's centre, 0 at its sides (equation 3).

        The target is NaN outside of the box.
        """
        all_anchors = Boxes.cat(anchors).tensor
        # Background positions may give NaN under the root; the foreground mask removes them.
        sides = torch.stack(
            [self.box2box_transform.get_deltas(all_anchors, boxes) for boxes in gt_boxes]
        )
        if sides.numel() == 0:
            return sides.new_zeros(sides.shape[:2])
        ratios = [
            pair.amin(dim=2) / pair.amax(dim=2) for pair in (sides[..., ::2], sides[..., 1::2])
        ]
        return (ratios[0] * ratios[1]).sqrt()

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: list[list[Tensor]]
    ) -> list[Instances]:
        logits, deltas, centerness = self._transpose_dense_predictions(
            predictions, [self.num_classes, 4, 1]
        )
        anchors = self.anchor_generator(features)
        scores = [
            (level.sigmoid() * center.sigmoid()).sqrt()
            for level, center in zip(logits, centerness, strict=True)
        ]
        return [
            self.inference_single_image(
                anchors, [x[i] for x in scores], [x[i] for x in deltas], size
            )
            for i, size in enumerate(images.image_sizes)
        ]


class FCOSHead(RetinaNetHead):
    """The head of RetinaNet, with centre-ness predicted from the box tower.

    Args:
        input_shape, conv_dims: as in `RetinaNetHead`.
        kwargs: its other arguments; there is one anchor per position.
    """

    def __init__(
        self, *, input_shape: list[ShapeSpec], conv_dims: list[int], **kwargs: Any
    ) -> None:
        super().__init__(input_shape=input_shape, conv_dims=conv_dims, num_anchors=1, **kwargs)
        self.ctrness = _conv(conv_dims[-1], 1)

    def forward(  # type: ignore[override]
        self, features: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Predict logits, distances and centre-ness per level.

        Their shapes are (N, num_classes, H, W), (N, 4, H, W) and (N, 1, H, W).
        """
        if len(features) != self._num_features:
            raise ValueError(f"{len(features)} features for a head of {self._num_features} levels")
        logits, deltas, centerness = [], [], []
        for feature in features:
            boxes = self.bbox_subnet(feature)
            logits.append(self.cls_score(self.cls_subnet(feature)))
            deltas.append(self.bbox_pred(boxes))
            centerness.append(self.ctrness(boxes))
        return logits, deltas, centerness
