"""RoI heads, the second stage: sampling of proposals, and heads on their pooled features."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry

from ..backbone.resnet import BottleneckBlock, ResNet
from ..matcher import Matcher
from ..poolers import ROIPooler
from ..proposal_generator.proposal_utils import add_ground_truth_to_proposals
from ..sampling import subsample_labels
from .box_head import build_box_head
from .fast_rcnn import FastRCNNOutputLayers
from .keypoint_head import build_keypoint_head
from .mask_head import build_mask_head

if TYPE_CHECKING:
    from detectron2.config import CfgNode

ROI_HEADS_REGISTRY = Registry("ROI_HEADS")
ROI_HEADS_REGISTRY.__doc__ = """Second stages by name.

A registered object is called with `(cfg, input_shape: dict[str, ShapeSpec])` and gives an
`ROIHeads`.
"""

Features = dict[str, Tensor]
Losses = dict[str, Tensor]
if TYPE_CHECKING:
    Result = Any  # losses in training, otherwise instances per image
else:
    Result = list[Instances]  # TorchScript compiles inference only


def build_roi_heads(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> ROIHeads:
    """Build the RoI heads named by `cfg.MODEL.ROI_HEADS.NAME`."""
    return ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)


def select_foreground_proposals(
    proposals: list[Instances], bg_label: int
) -> tuple[list[Instances], list[Tensor]]:
    """Select the proposals of each image whose `gt_classes` is neither -1 nor `bg_label`.

    Also returns the selection as (Ri,) bool.
    """
    masks = [(p.gt_classes != -1) & (p.gt_classes != bg_label) for p in proposals]
    chosen = [p[mask.nonzero().flatten()] for p, mask in zip(proposals, masks, strict=True)]
    return chosen, masks


def select_proposals_with_visible_keypoints(proposals: list[Instances]) -> list[Instances]:
    """Select the proposals of each image with a labelled keypoint inside the box.

    Others contribute nothing to the keypoint loss.
    """
    chosen = []
    for found in proposals:
        if len(found) == 0:  # may lack gt_keypoints
            chosen.append(found)
            continue
        points, labelled = found.gt_keypoints.tensor.split((2, 1), dim=2)
        low, high = found.proposal_boxes.tensor[:, None].split(2, dim=2)
        inside = ((points >= low) & (points <= high)).all(dim=2) & (labelled[..., 0] >= 1)
        chosen.append(found[inside.any(dim=1).nonzero().flatten()])
    count = sum(len(found) for found in chosen) / max(len(chosen), 1)
    get_event_storage().put_scalar("keypoint_head/num_fg_samples", count)
    return chosen


class ROIHeads(nn.Module):
    """Matching and sampling of proposals; a subclass adds heads and defines `forward`.

    Args:
        num_classes: number of classes without the background.
        batch_size_per_image: proposals per image sampled for the losses.
        positive_fraction: maximum fraction of foreground among them.
        proposal_matcher: labels proposals by their IoU with the ground truth.
        proposal_append_gt: append the ground truth to the proposals in training.
    """

    _pairwise_iou: Callable[[Any, Any], Tensor] = staticmethod(pairwise_iou)

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ) -> None:
        super().__init__()
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.num_classes = num_classes
        self.proposal_matcher = proposal_matcher
        self.proposal_append_gt = proposal_append_gt

    @classmethod
    def from_config(cls, cfg: CfgNode, *_: Any) -> dict:
        section = cfg.MODEL.ROI_HEADS
        return {
            "num_classes": section.NUM_CLASSES,
            "batch_size_per_image": section.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": section.POSITIVE_FRACTION,
            "proposal_matcher": Matcher(section.IOU_THRESHOLDS, section.IOU_LABELS),
            "proposal_append_gt": section.PROPOSAL_APPEND_GT,
        }

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], Losses]:
        """Return detections of each image (in training the sampled proposals) and losses.

        Args:
            images: N images.
            features: (N, C, H, W) by name.
            proposals: per image with `proposal_boxes`.
            targets: in training, per image with `gt_boxes`, `gt_classes` and further targets of
                the heads.
        """
        raise NotImplementedError

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """Sample proposals of each image, with `gt_classes` (`num_classes` is background).

        If the image has ground truth they also have all its `gt_*` fields: of the match for
        foreground, arbitrary for background.
        """
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        sampled = [self._sample_image(*pair) for pair in zip(proposals, targets, strict=True)]
        background = [int((p.gt_classes == self.num_classes).sum()) for p in sampled]
        foreground = [len(p) - count for p, count in zip(sampled, background, strict=True)]
        storage = get_event_storage()
        images = max(len(sampled), 1)
        storage.put_scalar("roi_head/num_fg_samples", sum(foreground) / images)
        storage.put_scalar("roi_head/num_bg_samples", sum(background) / images)
        return sampled

    def _sample_image(self, proposals: Instances, truth: Instances) -> Instances:
        quality = self._pairwise_iou(truth.gt_boxes, proposals.proposal_boxes)
        matches, labels = self.proposal_matcher(quality)
        rows, classes = self._sample_proposals(matches, labels, truth.gt_classes)
        sampled = proposals[rows]
        sampled.gt_classes = classes
        if len(truth) > 0:
            for name, value in truth.get_fields().items():
                if name.startswith("gt_") and not sampled.has(name):
                    sampled.set(name, value[matches[rows]])
        return sampled

    def _sample_proposals(
        self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the rows of a random sample and their classes.

        Args:
            matched_idxs, matched_labels: (R,) output of the matcher.
            gt_classes: (G,).
        """
        if len(gt_classes) > 0:
            classes = gt_classes[matched_idxs]
            classes[matched_labels == 0] = self.num_classes
            classes[matched_labels == -1] = -1
        else:
            classes = torch.full_like(matched_idxs, self.num_classes)
        foreground, background = subsample_labels(
            classes, self.batch_size_per_image, self.positive_fraction, self.num_classes
        )
        rows = torch.cat([foreground, background])
        return rows, classes[rows]


def _pooler(section: CfgNode, in_features: list[str], shapes: dict[str, ShapeSpec]) -> ROIPooler:
    return ROIPooler(
        output_size=section.POOLER_RESOLUTION,
        scales=[1.0 / cast(int, shapes[name].stride) for name in in_features],
        sampling_ratio=section.POOLER_SAMPLING_RATIO,
        pooler_type=section.POOLER_TYPE,
    )


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeads(ROIHeads):
    """RoI heads "C4": boxes and masks are predicted from the last stage of a ResNet.

    That stage runs on pooled features of the stage before.

    Args:
        in_features: a list of one name.
        pooler: pools the features of regions.
        res5: layers on these; a list of blocks becomes a sequence.
        box_predictor: a `FastRCNNOutputLayers` on the averaged output of `res5`.
        mask_head: on the output of `res5` itself.
        kwargs: arguments of `ROIHeads`.
    """

    __constants__ = ("mask_on",)  # lets TorchScript drop the missing head

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        pooler: ROIPooler,
        res5: nn.Module | list[nn.Module],
        box_predictor: nn.Module,
        mask_head: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.in_features = in_features
        self.pooler = pooler
        self.res5 = nn.Sequential(*res5) if isinstance(res5, list | tuple) else res5
        self.box_predictor: Any = box_predictor
        self.mask_on = mask_head is not None
        if mask_head is not None:
            self.mask_head = mask_head

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        options = super().from_config(cfg)
        in_features = options["in_features"] = cfg.MODEL.ROI_HEADS.IN_FEATURES
        if cfg.MODEL.KEYPOINT_ON or len(in_features) != 1:
            raise ValueError("Res5ROIHeads reads one of IN_FEATURES and predicts no keypoints")
        section = cfg.MODEL.ROI_BOX_HEAD
        options["pooler"] = _pooler(section, in_features, input_shape)
        build: Any = cls._build_res5_block
        # Older subclasses override it as an instance method.
        arguments = (cfg,) if inspect.ismethod(build) else (cls, cfg)
        options["res5"], channels = build(*arguments)
        options["box_predictor"] = FastRCNNOutputLayers(
            cfg, ShapeSpec(channels=channels, height=1, width=1)
        )
        if cfg.MODEL.MASK_ON:
            side = section.POOLER_RESOLUTION
            shape = ShapeSpec(channels=channels, width=side, height=side)
            options["mask_head"] = build_mask_head(cfg, shape)
        return options

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Module, int]:
        """Build the stage and return its output channels."""
        section = cfg.MODEL.RESNETS
        if section.DEFORM_ON_PER_STAGE[-1]:
            raise ValueError(
                "Res5ROIHeads has no deformable res5: DEFORM_ON_PER_STAGE ends in False"
            )
        out_channels = section.RES2_OUT_CHANNELS * 8
        blocks = ResNet.make_stage(
            BottleneckBlock,
            3,
            stride_per_block=[2, 1, 1],
            in_channels=out_channels // 2,
            bottleneck_channels=section.NUM_GROUPS * section.WIDTH_PER_GROUP * 8,
            out_channels=out_channels,
            num_groups=section.NUM_GROUPS,
            norm=section.NORM,
            stride_in_1x1=section.STRIDE_IN_1X1,
        )
        return nn.Sequential(*blocks), out_channels

    def _shared_roi_transform(self, features: list[Tensor], boxes: list[Boxes]) -> Tensor:
        """Pool and transform the features of all regions (R, C, H, W)."""
        return self.res5(self.pooler(features, boxes))

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], Losses]:
        del images
        if self.training:
            proposals = self.label_and_sample_proposals(proposals, _required(targets))
        levels = [features[name] for name in self.in_features]
        regions = self._shared_roi_transform(levels, [p.proposal_boxes for p in proposals])
        predictions = self.box_predictor(regions.mean(dim=(2, 3)))
        if self.training:
            losses = self.box_predictor.losses(predictions, proposals)
            if self.mask_on:
                foreground, masks = select_foreground_proposals(proposals, self.num_classes)
                losses.update(self.mask_head(regions[torch.cat(masks)], foreground))
            return [], losses
        found, _ = self.box_predictor.inference(predictions, proposals)
        return self.forward_with_given_boxes(features, found), {}

    def forward_with_given_boxes(
        self, features: Features, instances: list[Instances]
    ) -> list[Instances]:
        """Add masks to detections with `pred_boxes` and `pred_classes`."""
        if self.training:
            raise RuntimeError("given boxes are for inference: call eval() first")
        if self.mask_on:
            levels = [features[name] for name in self.in_features]
            regions = self._shared_roi_transform(levels, [i.pred_boxes for i in instances])
            return self.mask_head(regions, instances)
        return instances


@ROI_HEADS_REGISTRY.register()
class StandardROIHeads(ROIHeads):
    """Independent heads for boxes, masks and keypoints, each with its own pooler.

    Args:
        box_in_features: names of the box head's features, finest first.
        box_pooler: pools the features of regions; None if the head pools by itself, from the
            dict of its features.
        box_head: layers on the pooled features.
        box_predictor: a `FastRCNNOutputLayers` on their output.
        mask_in_features, mask_pooler, mask_head: the same for masks.
        keypoint_in_features, keypoint_pooler, keypoint_head: the same for keypoints.
        train_on_pred_boxes: train masks and keypoints on the box head's boxes, not on proposals.
        kwargs: arguments of `ROIHeads`.
    """

    # Lets TorchScript drop the missing heads.
    __constants__ = ("mask_on", "keypoint_on")

    @configurable
    def __init__(
        self,
        *,
        box_in_features: list[str],
        box_pooler: ROIPooler,
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_in_features: list[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        keypoint_in_features: list[str] | None = None,
        keypoint_pooler: ROIPooler | None = None,
        keypoint_head: nn.Module | None = None,
        train_on_pred_boxes: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.in_features = self.box_in_features = box_in_features
        self.box_pooler, self.box_head = box_pooler, box_head
        self.box_predictor: Any = box_predictor
        self.mask_on = mask_in_features is not None
        if self.mask_on:
            self.mask_in_features = mask_in_features or []
            self.mask_pooler: Any = mask_pooler
            self.mask_head: Any = mask_head
        self.keypoint_on = keypoint_in_features is not None
        if self.keypoint_on:
            self.keypoint_in_features = keypoint_in_features or []
            self.keypoint_pooler: Any = keypoint_pooler
            self.keypoint_head: Any = keypoint_head
        self.train_on_pred_boxes = train_on_pred_boxes

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        options = super().from_config(cfg)
        options["train_on_pred_boxes"] = cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES
        # Older subclasses override these as instance methods, and call them in their __init__.
        for build in (cls._init_box_head, cls._init_mask_head, cls._init_keypoint_head):
            if inspect.ismethod(build):
                options.update(build(cfg, input_shape))
        return options

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Return the arguments of `__init__` for boxes."""
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler = _pooler(cfg.MODEL.ROI_BOX_HEAD, in_features, input_shape)
        head: Any = build_box_head(cfg, _pooled_shape(in_features, input_shape, pooler))
        return {
            "box_in_features": in_features,
            "box_pooler": pooler,
            "box_head": head,
            "box_predictor": cls._box_predictor(cfg, head.output_shape),
        }

    @classmethod
    def _box_predictor(cls, cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
        return FastRCNNOutputLayers(cfg, input_shape)

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Return the arguments of `__init__` for masks."""
        if not cfg.MODEL.MASK_ON:
            return {}
        return cls._init_head("mask", cfg.MODEL.ROI_MASK_HEAD, build_mask_head, cfg, input_shape)

    @classmethod
    def _init_keypoint_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Return the arguments of `__init__` for keypoints."""
        if not cfg.MODEL.KEYPOINT_ON:
            return {}
        section = cfg.MODEL.ROI_KEYPOINT_HEAD
        return cls._init_head("keypoint", section, build_keypoint_head, cfg, input_shape)

    @staticmethod
    def _init_head(
        kind: str,
        section: CfgNode,
        build: Callable[..., nn.Module],
        cfg: CfgNode,
        input_shape: dict[str, ShapeSpec],
    ) -> dict:
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        shape: Any = {name: input_shape[name] for name in in_features}
        pooler = None
        if section.POOLER_TYPE:
            pooler = _pooler(section, in_features, input_shape)
            shape = _pooled_shape(in_features, input_shape, pooler)
        return {
            f"{kind}_in_features": in_features,
            f"{kind}_pooler": pooler,
            f"{kind}_head": build(cfg, shape),
        }

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], Losses]:
        del images
        if self.training:
            proposals = self.label_and_sample_proposals(proposals, _required(targets))
            # The box head may replace the proposals by its own boxes (`train_on_pred_boxes`).
            losses = self._forward_box(features, proposals)
            losses.update(self._forward_mask(features, proposals))
            losses.update(self._forward_keypoint(features, proposals))
            return proposals, losses
        found = self._forward_box(features, proposals)
        return self.forward_with_given_boxes(features, found), {}

    def forward_with_given_boxes(
        self, features: Features, instances: list[Instances]
    ) -> list[Instances]:
        """Add masks and keypoints to detections with `pred_boxes` and `pred_classes`."""
        if self.training:
            raise RuntimeError("given boxes are for inference: call eval() first")
        instances = self._forward_mask(features, instances)
        return self._forward_keypoint(features, instances)

    def _forward_box(self, features: Features, proposals: list[Instances]) -> Result:
        """Return losses in training, otherwise detections."""
        levels = [features[name] for name in self.box_in_features]
        regions = self.box_pooler(levels, [p.proposal_boxes for p in proposals])
        predictions = self.box_predictor(self.box_head(regions))
        if self.training:
            losses = self.box_predictor.losses(predictions, proposals)
            if self.train_on_pred_boxes:
                with torch.no_grad():
                    boxes = self.box_predictor.predict_boxes_for_gt_classes(predictions, proposals)
                for found, image_boxes in zip(proposals, boxes, strict=True):
                    found.proposal_boxes = Boxes(image_boxes)
            return losses
        return self.box_predictor.inference(predictions, proposals)[0]

    def _forward_mask(self, features: Features, instances: list[Instances]) -> Result:
        """Return losses in training, otherwise the instances with masks."""
        if self.mask_on:
            if self.training:
                instances, _ = select_foreground_proposals(instances, self.num_classes)
            levels = {name: features[name] for name in self.mask_in_features}
            if self.mask_pooler is None:
                return self.mask_head(levels, instances)
            regions = self.mask_pooler(list(levels.values()), self._boxes(instances))
            return self.mask_head(regions, instances)
        if self.training:
            return {}
        return instances

    def _forward_keypoint(self, features: Features, instances: list[Instances]) -> Result:
        """Return losses in training, otherwise the instances with keypoints."""
        if self.keypoint_on:
            if self.training:
                instances, _ = select_foreground_proposals(instances, self.num_classes)
                instances = select_proposals_with_visible_keypoints(instances)
            levels = {name: features[name] for name in self.keypoint_in_features}
            if self.keypoint_pooler is None:
                return self.keypoint_head(levels, instances)
            regions = self.keypoint_pooler(list(levels.values()), self._boxes(instances))
            return self.keypoint_head(regions, instances)
        if self.training:
            return {}
        return instances

    def _boxes(self, instances: list[Instances]) -> list[Boxes]:
        return [i.proposal_boxes if self.training else i.pred_boxes for i in instances]


def _pooled_shape(
    in_features: list[str], shapes: dict[str, ShapeSpec], pooler: ROIPooler
) -> ShapeSpec:
    channels = {shapes[name].channels for name in in_features}
    if len(channels) != 1:
        raise ValueError(f"features of a pooler have the same channels, got {channels}")
    height, width = pooler.output_size
    return ShapeSpec(channels=channels.pop(), height=height, width=width)


def _required(targets: list[Instances] | None) -> list[Instances]:
    if targets is None:
        raise ValueError("ROI heads in training need ground truth, got none")
    return targets
