"""Panoptic FPN: Mask R-CNN with a semantic head (Kirillov et al. 2019, arXiv:1901.02446)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from detectron2.config import configurable
from detectron2.structures import Instances

from ..postprocessing import detector_postprocess, sem_seg_postprocess, wanted_size
from .build import META_ARCH_REGISTRY
from .rcnn import GeneralizedRCNN
from .semantic_seg import build_sem_seg_head, sem_seg_targets

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = ["PanopticFPN"]


@META_ARCH_REGISTRY.register()
class PanopticFPN(GeneralizedRCNN):
    """Instance and semantic segmentation from one backbone, merged to a panoptic one.

    Args:
        sem_seg_head: as in `SemanticSegmentor`.
        combine_overlap_thresh: an instance is dropped if more than this fraction of it is covered
            by better ones.
        combine_stuff_area_thresh: in pixels; smaller areas of stuff are dropped.
        combine_instances_score_thresh: minimum score of an instance.
        kwargs: arguments of `GeneralizedRCNN`.
    """

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: nn.Module,
        combine_overlap_thresh: float = 0.5,
        combine_stuff_area_thresh: float = 4096,
        combine_instances_score_thresh: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sem_seg_head = sem_seg_head
        self.combine_overlap_thresh = combine_overlap_thresh
        self.combine_stuff_area_thresh = combine_stuff_area_thresh
        self.combine_instances_score_thresh = combine_instances_score_thresh

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        section = cfg.MODEL.PANOPTIC_FPN
        arguments = super().from_config(cfg)
        logger = logging.getLogger(__name__)
        if not section.COMBINE.ENABLED:
            logger.warning(
                "MODEL.PANOPTIC_FPN.COMBINE.ENABLED is not read any more: call "
                "model.inference(do_postprocess=False) for results that are not combined."
            )
        if section.INSTANCE_LOSS_WEIGHT != 1.0:
            logger.warning(
                "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT is not read any more: set the weights of "
                "the instance losses themselves."
            )
        return {
            **arguments,
            "sem_seg_head": build_sem_seg_head(cfg, arguments["backbone"].output_shape()),
            "combine_overlap_thresh": section.COMBINE.OVERLAP_THRESH,
            "combine_stuff_area_thresh": section.COMBINE.STUFF_AREA_LIMIT,
            "combine_instances_score_thresh": section.COMBINE.INSTANCES_CONFIDENCE_THRESH,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Return losses in training, otherwise the predictions of each image.

        Predictions are dicts of "instances", "sem_seg" and "panoptic_seg", the result of
        `combine_semantic_and_instance_outputs`.

        Args:
            batched_inputs: as in `GeneralizedRCNN`; in training with "sem_seg": (H, W) classes.
        """
        if not self.training:
            return self.inference(batched_inputs)  # type: ignore[return-value]
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        ignore_value = cast(int, self.sem_seg_head.ignore_value)
        semantic = sem_seg_targets(batched_inputs, self.backbone, ignore_value, self.device)
        _, losses = self.sem_seg_head(features, semantic)
        truth = [x["instances"].to(self.device) for x in batched_inputs]
        proposals, proposal_losses = self.proposal_generator(images, features, truth)
        _, detector_losses = self.roi_heads(images, features, proposals, truth)
        return {**losses, **proposal_losses, **detector_losses}

    def inference(  # type: ignore[override]
        self, batched_inputs: list[dict[str, Any]], do_postprocess: bool = True
    ) -> list[dict] | tuple[list[Instances], Tensor]:
        """Return the predictions of each image, as `forward` in inference.

        Args:
            do_postprocess: False returns the instances and the semantic scores
                (B, classes, H, W) at the size of the network's input.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        scores, _ = self.sem_seg_head(features, None)
        proposals, _ = self.proposal_generator(images, features, None)
        instances, _ = self.roi_heads(images, features, proposals, None)
        if not do_postprocess:
            return instances, scores
        return [
            self._result(*found, *wanted_size(x, found[2]))
            for found, x in zip(
                zip(instances, scores, images.image_sizes, strict=True), batched_inputs, strict=True
            )
        ]

    def _result(
        self, found: Instances, scores: Tensor, size: tuple[int, int], height: int, width: int
    ) -> dict[str, Any]:
        semantic = sem_seg_postprocess(scores, size, height, width)
        instances = detector_postprocess(found, height, width)
        panoptic = combine_semantic_and_instance_outputs(
            instances,
            semantic.argmax(dim=0),
            self.combine_overlap_thresh,
            self.combine_stuff_area_thresh,
            self.combine_instances_score_thresh,
        )
        return {"sem_seg": semantic, "instances": instances, "panoptic_seg": panoptic}


def combine_semantic_and_instance_outputs(
    instance_results: Instances,
    semantic_results: Tensor,
    overlap_threshold: float,
    stuff_area_thresh: float,
    instances_score_thresh: float,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Merge instances and semantic classes to one segment per pixel.

    Instances are placed first, in order of decreasing score; stuff fills the rest.

    Args:
        instance_results: `pred_masks` (N, H, W) bool, `scores` and `pred_classes`.
        semantic_results: (H, W) classes; 0 is any thing, not stuff.
        overlap_threshold, stuff_area_thresh, instances_score_thresh: as in `PanopticFPN`.

    Returns:
        (H, W) int32 ids of segments, 0 for none; and per segment a dict of "id", "category_id",
        "isthing", for an instance also "score" and "instance_id" (its index), for stuff also
        "area" in pixels.
    """
    segments = torch.zeros_like(semantic_results, dtype=torch.int32)
    infos: list[dict[str, Any]] = []
    for index in instance_results.scores.argsort(descending=True).tolist():
        score = instance_results.scores[index].item()
        if score < instances_score_thresh:
            break
        mask = instance_results.pred_masks[index]
        free = mask & (segments == 0)
        area = int(mask.sum())
        # Better instances cover it: what is left would be a fragment.
        if area == 0 or (area - int(free.sum())) / area > overlap_threshold:
            continue
        infos.append(
            {
                "id": len(infos) + 1,
                "isthing": True,
                "score": score,
                "category_id": int(instance_results.pred_classes[index]),
                "instance_id": index,
            }
        )
        segments[free] = len(infos)
    for category in semantic_results.unique().tolist():
        free = (semantic_results == category) & (segments == 0)
        area = int(free.sum())
        # Class 0 of the semantic head is "things", which the instances describe.
        if category == 0 or area < stuff_area_thresh:
            continue
        infos.append(
            {"id": len(infos) + 1, "isthing": False, "category_id": category, "area": area}
        )
        segments[free] = len(infos)
    return segments, infos
