"""The region proposal network (Ren et al. 2015, arXiv:1506.01497)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, cat
from detectron2.structures import Boxes, ImageList, Instances, RotatedBoxes, pairwise_iou
from detectron2.structures.rotated_boxes import BoxLists
from detectron2.utils.events import get_event_storage
from detectron2.utils.memory import retry_if_cuda_oom
from detectron2.utils.registry import Registry

from ..anchor_generator import build_anchor_generator
from ..box_regression import Box2BoxTransform, _dense_box_regression_loss
from ..matcher import Matcher
from ..sampling import subsample_labels
from .build import PROPOSAL_GENERATOR_REGISTRY
from .proposal_utils import find_top_rpn_proposals

if TYPE_CHECKING:
    from detectron2.config import CfgNode

RPN_HEAD_REGISTRY = Registry("RPN_HEAD")
RPN_HEAD_REGISTRY.__doc__ = """Heads of the proposal network by name.

A registered object is called with `(cfg, input_shape: list[ShapeSpec])`. Its result is called with
the features of each level and gives a list of logits (N, A, H, W) and a list of deltas
(N, A * box_dim, H, W).
"""


def build_rpn_head(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build the head named by `cfg.MODEL.RPN.HEAD_NAME`."""
    return RPN_HEAD_REGISTRY.get(cfg.MODEL.RPN.HEAD_NAME)(cfg, input_shape)


@RPN_HEAD_REGISTRY.register()
class StandardRPNHead(nn.Module):
    """3x3 convolutions, then 1x1 ones for objectness and for deltas, shared by all levels.

    Args:
        in_channels: channels of every level.
        num_anchors: anchors per position.
        box_dim: deltas per anchor.
        conv_dims: output channels of each 3x3 convolution; -1 for those of its input.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_anchors: int,
        box_dim: int = 4,
        conv_dims: Sequence[int] = (-1,),
    ) -> None:
        super().__init__()
        channels = [in_channels]
        for width in conv_dims:
            channels.append(channels[-1] if width == -1 else width)
        if min(channels) <= 0:
            raise ValueError(f"channels of an RPN head are positive or -1, got {conv_dims}")
        convs = [self._get_rpn_conv(before, after) for before, after in pairwise(channels)]
        if len(convs) == 1:
            self.conv: nn.Module = convs[0]  # published checkpoints call it "conv"
        else:
            self.conv = nn.Sequential()
            for index, conv in enumerate(convs):
                self.conv.add_module(f"conv{index}", conv)
        self.objectness_logits = nn.Conv2d(channels[-1], num_anchors, kernel_size=1)
        self.anchor_deltas = nn.Conv2d(channels[-1], num_anchors * box_dim, kernel_size=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        generator: Any = build_anchor_generator(cfg, input_shape)
        channels = {shape.channels for shape in input_shape}
        num_anchors = set(generator.num_anchors)
        if len(channels) != 1 or len(num_anchors) != 1:
            raise ValueError(
                "levels of an RPN head have the same channels and anchors at a position, "
                f"got {channels} and {num_anchors}"
            )
        return {
            "in_channels": channels.pop(),
            "num_anchors": num_anchors.pop(),
            "box_dim": generator.box_dim,
            "conv_dims": cfg.MODEL.RPN.CONV_DIMS,
        }

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Predict logits (N, A, H, W) and deltas (N, A * box_dim, H, W) per level."""
        levels = [self._level(self.conv(feature)) for feature in features]
        return [logits for logits, _ in levels], [deltas for _, deltas in levels]

    def _get_rpn_conv(self, in_channels: int, out_channels: int) -> nn.Module:
        """Build a 3x3 convolution; packages override this."""
        return Conv2d(in_channels, out_channels, kernel_size=3, padding=1, activation=nn.ReLU())

    def _level(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self.objectness_logits(hidden), self.anchor_deltas(hidden)


@PROPOSAL_GENERATOR_REGISTRY.register()
class RPN(nn.Module):
    """Region proposal network: classifies anchors as object or background and regresses boxes.

    Args:
        in_features: names of the features, finest first.
        head: called with the features; see `RPN_HEAD_REGISTRY`.
        anchor_generator: called with the features; returns boxes per level.
        anchor_matcher: labels anchors by their IoU with the ground truth.
        box2box_transform: box transform between anchors and boxes.
        batch_size_per_image: anchors per image sampled for the losses.
        positive_fraction: maximum fraction of foreground among them.
        pre_nms_topk, post_nms_topk: proposals before NMS (per level) and after, as (training,
            inference).
        nms_thresh: IoU threshold of NMS.
        min_box_size: minimum side of a proposal, in pixels.
        anchor_boundary_thresh: pixels by which anchors may leave the image in training; below 0
            for no limit.
        loss_weight: weight of both losses, or of each by name.
        box_reg_loss_type, smooth_l1_beta: of the box loss: "smooth_l1", "giou", "diou" or "ciou".
    """

    box_type: type[Boxes] | type[RotatedBoxes] = Boxes
    _pairwise_iou: Callable[[Any, Any], Tensor] = staticmethod(pairwise_iou)
    _find_top: Callable[..., list[Instances]] = staticmethod(find_top_rpn_proposals)

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        head: nn.Module,
        anchor_generator: nn.Module,
        anchor_matcher: Matcher,
        box2box_transform: Box2BoxTransform,
        batch_size_per_image: int,
        positive_fraction: float,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
        anchor_boundary_thresh: float = -1.0,
        loss_weight: float | dict[str, float] = 1.0,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.rpn_head, self.anchor_generator = head, anchor_generator
        self.anchor_matcher, self.box2box_transform = anchor_matcher, box2box_transform
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        # Keys are values of `self.training`.
        self.pre_nms_topk = {True: pre_nms_topk[0], False: pre_nms_topk[1]}
        self.post_nms_topk = {True: post_nms_topk[0], False: post_nms_topk[1]}
        self.nms_thresh, self.min_box_size = nms_thresh, float(min_box_size)
        self.anchor_boundary_thresh = anchor_boundary_thresh
        if not isinstance(loss_weight, Mapping):
            loss_weight = {"loss_rpn_cls": loss_weight, "loss_rpn_loc": loss_weight}
        self.loss_weight = loss_weight
        self.box_reg_loss_type, self.smooth_l1_beta = box_reg_loss_type, smooth_l1_beta

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        section = cfg.MODEL.RPN
        shapes = [input_shape[name] for name in section.IN_FEATURES]
        return {
            "in_features": section.IN_FEATURES,
            "head": build_rpn_head(cfg, shapes),
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "anchor_matcher": Matcher(
                section.IOU_THRESHOLDS, section.IOU_LABELS, allow_low_quality_matches=True
            ),
            "box2box_transform": Box2BoxTransform(weights=section.BBOX_REG_WEIGHTS),
            "batch_size_per_image": section.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": section.POSITIVE_FRACTION,
            "pre_nms_topk": (section.PRE_NMS_TOPK_TRAIN, section.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (section.POST_NMS_TOPK_TRAIN, section.POST_NMS_TOPK_TEST),
            "nms_thresh": section.NMS_THRESH,
            "min_box_size": cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
            "anchor_boundary_thresh": section.BOUNDARY_THRESH,
            "loss_weight": {
                "loss_rpn_cls": section.LOSS_WEIGHT,
                "loss_rpn_loc": section.BBOX_REG_LOSS_WEIGHT * section.LOSS_WEIGHT,
            },
            "box_reg_loss_type": section.BBOX_REG_LOSS_TYPE,
            "smooth_l1_beta": section.SMOOTH_L1_BETA,
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return the proposals of each image, and the losses in training.

        Args:
            images: N images; only their sizes are used.
            features: (N, C, H, W) by name.
            gt_instances: in training, per image with `gt_boxes`.

        Returns:
            `Instances` with `proposal_boxes` and `objectness_logits`, best first, and the losses
            "loss_rpn_cls" and "loss_rpn_loc".
        """
        levels = [features[name] for name in self.in_features]
        anchors = self.anchor_generator(levels)
        head_logits, head_deltas = self.rpn_head(levels)
        logits = [_rows_of_anchors(x, 1).squeeze(-1) for x in head_logits]
        box_dim = anchors[0].tensor.shape[1]
        deltas = [_rows_of_anchors(x, box_dim) for x in head_deltas]
        losses: dict[str, Tensor] = {}
        if self.training:
            if gt_instances is None:
                raise ValueError("an RPN in training needs ground truth, got none")
            labels, boxes = self.label_and_sample_anchors(anchors, gt_instances)
            losses = self.losses(anchors, logits, labels, deltas, boxes)
        return self.predict_proposals(anchors, logits, deltas, images.image_sizes), losses

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: BoxLists, gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Label anchors and sample them for the losses.

        Returns per image (R,) int8 labels (1 object, 0 background, -1 not sampled) and (R, box_dim)
        matched boxes, which are meaningful only for objects.

        Args:
            anchors: boxes per level, R in total.
        """
        every = self.box_type.cat(cast(Any, anchors))
        pairs = [self._label_image(every, truth) for truth in gt_instances]
        return [labels for labels, _ in pairs], [boxes for _, boxes in pairs]

    def _label_image(self, anchors: Any, truth: Instances) -> tuple[Tensor, Tensor]:
        # The IoU matrix of a crowded image with all anchors may not fit into GPU memory.
        quality = retry_if_cuda_oom(self._pairwise_iou)(truth.gt_boxes, anchors)
        matches, labels = retry_if_cuda_oom(self.anchor_matcher)(quality)
        labels = labels.to(truth.gt_boxes.device)
        if self.anchor_boundary_thresh >= 0:
            inside = anchors.inside_box(truth.image_size, self.anchor_boundary_thresh)
            labels[~inside] = -1
        # After ignoring anchors beyond the border, which must not use up the sample.
        labels = self._subsample_labels(labels)
        if len(truth.gt_boxes) == 0:
            return labels, torch.zeros_like(anchors.tensor)
        return labels, truth.gt_boxes.tensor[matches.to(truth.gt_boxes.device)]

    def _subsample_labels(self, label: Tensor) -> Tensor:
        """Set the labels (R,) of all anchors outside of a random sample to -1, in place."""
        positive, negative = subsample_labels(
            label, self.batch_size_per_image, self.positive_fraction, 0
        )
        label.fill_(-1)
        label[positive] = 1
        label[negative] = 0
        return label

    def losses(
        self,
        anchors: BoxLists,
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute "loss_rpn_cls" and "loss_rpn_loc", over `batch_size_per_image` times N.

        Args:
            anchors: boxes per level, R in total.
            pred_objectness_logits, pred_anchor_deltas: per level (N, Ri) and (N, Ri, box_dim).
            gt_labels, gt_boxes: per image (R,) and (R, box_dim), from
                `label_and_sample_anchors`.
        """
        labels = torch.stack(gt_labels)
        num_images = len(gt_labels)
        foreground, sampled = labels == 1, labels >= 0
        storage = get_event_storage()
        storage.put_scalar("rpn/num_pos_anchors", foreground.sum().item() / num_images)
        storage.put_scalar("rpn/num_neg_anchors", (labels == 0).sum().item() / num_images)
        box_loss = _dense_box_regression_loss(
            [boxes.tensor for boxes in anchors],
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            foreground,
            box_reg_loss_type=self.box_reg_loss_type,
            smooth_l1_beta=self.smooth_l1_beta,
        )
        logits = cat(pred_objectness_logits, dim=1)[sampled]
        class_loss = F.binary_cross_entropy_with_logits(
            logits, labels[sampled].to(logits.dtype), reduction="sum"
        )
        # The full batch size, also if fewer anchors were sampled, as in Detectron2.
        normalizer = self.batch_size_per_image * num_images
        losses = {"loss_rpn_cls": class_loss / normalizer, "loss_rpn_loc": box_loss / normalizer}
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def predict_proposals(
        self,
        anchors: BoxLists,
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Return the best proposals of each image, without gradient."""
        with torch.no_grad():
            return self._find_top(
                self._decode_proposals(anchors, pred_anchor_deltas),
                pred_objectness_logits,
                image_sizes,
                self.nms_thresh,
                self.pre_nms_topk[self.training],
                self.post_nms_topk[self.training],
                self.min_box_size,
                self.training,
            )

    def _decode_proposals(
        self, anchors: BoxLists, pred_anchor_deltas: list[Tensor]
    ) -> list[Tensor]:
        """Decode the boxes (N, Ri, box_dim) of each level."""
        decoded: list[Tensor] = []
        for boxes, deltas in zip(anchors, pred_anchor_deltas, strict=True):
            repeated = boxes.tensor.expand_as(deltas).flatten(0, 1)
            flat = self.box2box_transform.apply_deltas(deltas.flatten(0, 1), repeated)
            decoded.append(flat.view_as(deltas))
        return decoded


def _rows_of_anchors(maps: Tensor, dim: int) -> Tensor:
    """Permute (N, A * dim, H, W) to (N, H * W * A, dim)."""
    return maps.unflatten(1, (-1, dim)).permute(0, 3, 4, 1, 2).flatten(1, 3)
