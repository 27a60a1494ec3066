"""Cascade R-CNN: a sequence of box heads, each on the boxes of the previous one.

Source: Cai and Vasconcelos 2018, arXiv:1712.00726.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage

from ..box_regression import Box2BoxTransform
from ..matcher import Matcher
from ..poolers import ROIPooler
from .box_head import build_box_head
from .fast_rcnn import FastRCNNOutputLayers, Predictions, fast_rcnn_inference
from .roi_heads import (
    ROI_HEADS_REGISTRY,
    Features,
    Losses,
    Result,
    StandardROIHeads,
    _pooled_shape,
    _pooler,
    _required,
)

if TYPE_CHECKING:
    from detectron2.config import CfgNode


class _ScaleGradient(torch.autograd.Function):
    """The identity, with its gradient multiplied by `scale`."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return input.view_as(input)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output * ctx.scale, None


@ROI_HEADS_REGISTRY.register()
class CascadeROIHeads(StandardROIHeads):
    """`StandardROIHeads` with a cascade of class-agnostic box heads.

    Args:
        box_in_features, box_pooler: as in `StandardROIHeads`.
        box_heads, box_predictors: one per stage.
        proposal_matchers: one per stage; the first one labels the proposals.
        kwargs: arguments of `StandardROIHeads`.
    """

    @configurable
    def __init__(
        self,
        *,
        box_in_features: list[str],
        box_pooler: ROIPooler,
        box_heads: list[nn.Module],
        box_predictors: list[nn.Module],
        proposal_matchers: list[Matcher],
        **kwargs: Any,
    ) -> None:
        self.num_cascade_stages = len(box_heads)
        if not len(box_heads) == len(box_predictors) == len(proposal_matchers):
            raise ValueError("a cascade has as many heads as predictors and matchers")
        if kwargs.setdefault("proposal_matcher", proposal_matchers[0]) is not proposal_matchers[0]:
            raise ValueError("the matcher of a cascade is that of its first stage")
        super().__init__(
            box_in_features=box_in_features,
            box_pooler=box_pooler,
            box_head=nn.ModuleList(box_heads),
            box_predictor=nn.ModuleList(box_predictors),
            **kwargs,
        )
        self.proposal_matchers = proposal_matchers

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        options = super().from_config(cfg, input_shape)
        # The first matcher of the cascade takes its place.
        options.pop("proposal_matcher")
        return options

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        section = cfg.MODEL.ROI_BOX_CASCADE_HEAD
        _check_cascade(cfg)
        pooler = _pooler(cfg.MODEL.ROI_BOX_HEAD, in_features, input_shape)
        shape = _pooled_shape(in_features, input_shape, pooler)
        heads, predictors, matchers = [], [], []
        for weights, iou in zip(section.BBOX_REG_WEIGHTS, section.IOUS, strict=True):
            head: Any = build_box_head(cfg, shape)
            transform = Box2BoxTransform(weights=weights)
            heads.append(head)
            predictors.append(
                FastRCNNOutputLayers(cfg, head.output_shape, box2box_transform=transform)
            )
            matchers.append(Matcher([iou], [0, 1]))
        return {
            "box_in_features": in_features,
            "box_pooler": pooler,
            "box_heads": heads,
            "box_predictors": predictors,
            "proposal_matchers": matchers,
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
            losses = self._forward_box(features, proposals, targets)
            losses.update(self._forward_mask(features, proposals))
            losses.update(self._forward_keypoint(features, proposals))
            return proposals, losses
        found = self._forward_box(features, proposals)
        return self.forward_with_given_boxes(features, found), {}

    def _forward_box(
        self,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> Result:
        """Return losses in training, otherwise detections.

        Args:
            targets: ground truth in training, to which each later stage is matched again.
        """
        levels = [features[name] for name in self.box_in_features]
        sizes = [p.image_size for p in proposals]
        stages: list[tuple[Predictions, list[Instances]]] = []
        for stage in range(self.num_cascade_stages):
            if stage > 0:
                boxes = self.box_predictor[stage - 1].predict_boxes(*stages[-1])
                proposals = self._create_proposals_from_boxes(boxes, sizes)
                if self.training:
                    proposals = self._match_and_label_boxes(proposals, stage, _required(targets))
            stages.append((self._run_stage(levels, proposals, stage), proposals))
        return self._stage_losses(stages) if self.training else self._detections(stages, sizes)

    def _stage_losses(self, stages: list[tuple[Predictions, list[Instances]]]) -> Losses:
        losses = {}
        for stage, (predictions, proposals) in enumerate(stages):
            with get_event_storage().name_scope(f"stage{stage}"):
                of_stage = self.box_predictor[stage].losses(predictions, proposals)
            losses.update({f"{name}_stage{stage}": loss for name, loss in of_stage.items()})
        return losses

    def _detections(
        self,
        stages: list[tuple[Predictions, list[Instances]]],
        sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Decode the boxes of the last stage with the mean of all stages' scores."""
        scores = [self.box_predictor[i].predict_probs(*stage) for i, stage in enumerate(stages)]
        last = self.box_predictor[-1]
        found, _ = fast_rcnn_inference(
            last.predict_boxes(*stages[-1]),
            [torch.stack(of_image).mean(dim=0) for of_image in zip(*scores, strict=True)],
            sizes,
            last.test_score_thresh,
            last.test_nms_thresh,
            last.test_topk_per_image,
        )
        return found

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        """Set `gt_classes` and `gt_boxes` of all proposals by the matcher of a stage."""
        counts = []
        for found, truth in zip(proposals, targets, strict=True):
            quality = pairwise_iou(truth.gt_boxes, found.proposal_boxes)
            matches, labels = self.proposal_matchers[stage](quality)
            if len(truth) > 0:
                found.gt_classes = truth.gt_classes[matches]
                found.gt_classes[labels == 0] = self.num_classes
                found.gt_boxes = truth.gt_boxes[matches]
            else:
                found.gt_classes = torch.full_like(matches, self.num_classes)
                found.gt_boxes = Boxes(torch.zeros_like(found.proposal_boxes.tensor))
            counts.append((int((labels == 1).sum()), len(labels) - int((labels == 1).sum())))
        storage = get_event_storage()
        for kind, values in zip(("fg", "bg"), zip(*counts, strict=True), strict=True):
            name = f"stage{stage}/roi_head/num_{kind}_samples"
            storage.put_scalar(name, sum(values) / len(values))
        return proposals

    def _run_stage(
        self, features: list[Tensor], proposals: list[Instances], stage: int
    ) -> Predictions:
        """Predict logits and deltas of all proposals."""
        regions = self.box_pooler(features, [p.proposal_boxes for p in proposals])
        if self.training:
            # All stages share the features: scale, so that the gradient is that of one stage.
            regions = _ScaleGradient.apply(regions, 1.0 / self.num_cascade_stages)
        return self.box_predictor[stage](cast(Any, self.box_head)[stage](regions))

    def _create_proposals_from_boxes(
        self, boxes: Any, image_sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """Create clipped proposals from boxes (Ri, 4); in training without those that are empty."""
        proposals = []
        for image_boxes, size in zip(boxes, image_sizes, strict=True):
            # Stages are trained independently: no gradient through the boxes.
            clipped = Boxes(image_boxes.detach())
            clipped.clip(size)
            if self.training:
                # Empty boxes have no deltas. At inference all are kept, since scores are averaged
                # by row.
                clipped = clipped[clipped.nonempty()]
            proposals.append(Instances(size, proposal_boxes=clipped))
        return proposals


def _check_cascade(cfg: CfgNode) -> None:
    section = cfg.MODEL.ROI_BOX_CASCADE_HEAD
    if not cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
        raise ValueError("a cascade needs MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG: True")
    if len(section.BBOX_REG_WEIGHTS) != len(section.IOUS):
        raise ValueError(
            "MODEL.ROI_BOX_CASCADE_HEAD has "
            f"{len(section.BBOX_REG_WEIGHTS)} BBOX_REG_WEIGHTS for {len(section.IOUS)} IOUS"
        )
    if section.IOUS[0] != cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS[0]:
        raise ValueError("MODEL.ROI_BOX_CASCADE_HEAD.IOUS starts with ROI_HEADS.IOU_THRESHOLDS[0]")
