"""The base of the DETR family: a set of queries in, a set of objects out, no anchors and no NMS."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2ext.data import DatasetStats
from d2ext.errors import ConfigError
from d2ext.modeling.losses.boxes import cxcywh_to_xyxy
from d2ext.modeling.losses.set_criterion import SetCriterion
from d2ext.modeling.matching.hungarian import HungarianMatcher
from d2ext.modeling.meta_arch import Detector
from d2ext.modeling.set_prediction import SetPredictions, SetTargets
from d2ext.projects.detr.modeling.selection import Selection, select_per_query, select_topk
from d2ext.text import first_few
from detectron2.config import CfgNode, configurable
from detectron2.structures import Boxes, ImageList, Instances


class QueryDetector(Detector):
    """Base of detectors that predict one object, or none, per query.

    A subclass implements `predict`.

    Args:
        criterion: matching and losses; tells how classes are scored.
        max_detections: detections per image under focal classification.
        deep_supervision: losses of every decoder layer, not only of the last one.
        options: those of `Detector`.
    """

    dataset_mapper = "detr"

    @configurable
    def __init__(
        self,
        *,
        criterion: SetCriterion,
        max_detections: int,
        deep_supervision: bool,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.criterion, self.max_detections = criterion, max_detections
        self.deep_supervision = deep_supervision

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            **super().from_config(cfg),
            "criterion": build_criterion(cfg),
            "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            "deep_supervision": cfg.MODEL.DETR.DEEP_SUPERVISION,
        }

    @property
    def masks_on(self) -> bool:
        """True if the model predicts masks and learns from `gt_masks`."""
        return False

    @classmethod
    def required_annotations(cls, cfg: CfgNode) -> dict[str, str]:
        if cfg.MODEL.DETR.PANOPTIC.ENABLED:
            return {"panoptic masks": "MODEL.DETR.PANOPTIC.ENABLED True"}
        return super().required_annotations(cfg)

    @classmethod
    def check_data(cls, cfg: CfgNode, stats: DatasetStats) -> list[str]:
        """Refuse images with more objects than there are queries: some could never be found.

        Of panoptic data only the things are counted.
        """
        if cfg.MODEL.DETR.PANOPTIC.ENABLED:
            _check_panoptic(cfg, stats)
        most = int(np.bincount(stats.object_images).max()) if stats.num_objects else 0
        if most > cfg.MODEL.DETR.NUM_QUERIES:
            raise ConfigError(
                f"an image of {', '.join(cfg.DATASETS.TRAIN)} has {most} objects, but the model "
                f"has {cfg.MODEL.DETR.NUM_QUERIES} queries, each of which finds at most one: raise "
                f"MODEL.DETR.NUM_QUERIES to {most} or more."
            )
        return []

    @abstractmethod
    def predict(self, images: ImageList, targets: SetTargets | None = None) -> list[SetPredictions]:
        """Predict boxes and class logits per layer and query.

        Args:
            images: a normalised and padded batch.
            targets: given in training, for models whose queries depend on them (denoising).
        Returns:
            Groups of predictions; the first one is the decoder's, its last layer the result.
        """

    def targets(self, batch: list[dict]) -> list[SetTargets]:
        """Return the objects per image: classes and normalised cxcywh boxes."""
        return [
            SetTargets.from_instances(instances, str(item.get("file_name", "")), self.masks_on)
            for instances, item in zip(super().targets(batch), batch, strict=True)
        ]

    def losses(self, images: ImageList, targets: list[SetTargets]) -> dict[str, Tensor]:
        objects = SetTargets.cat(targets)
        predictions = self.predict(images, objects)
        if not self.deep_supervision:
            predictions = [each.last_layer() for each in predictions]
        return self.criterion(predictions, objects)

    def detect(self, images: ImageList) -> list[Instances]:
        found = self.predict(images)[0]
        return self.instances(found.logits[-1], found.boxes[-1], images.image_sizes)

    def select(self, logits: Tensor) -> Selection:
        """Select the detections from the last layer's (B, Q, K) logits."""
        if self.criterion.matcher.classification == "softmax":
            return select_per_query(logits)
        return select_topk(logits, self.max_detections)

    def instances(
        self, logits: Tensor, boxes: Tensor, sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """Convert the last layer's output to detections in pixels; boxes are not clipped.

        Args:
            logits: (B, Q, K).
            boxes: (B, Q, 4) normalised cxcywh.
            sizes: height and width per image, without padding.
        """
        chosen = self.select(logits)
        corners = cxcywh_to_xyxy(boxes.float())
        corners = corners.gather(1, chosen.queries[..., None].expand(-1, -1, 4))
        found = []
        for index, (height, width) in enumerate(sizes):
            instances = Instances((height, width))
            scale = corners.new_tensor([width, height, width, height])
            instances.pred_boxes = Boxes(corners[index] * scale)
            instances.scores = chosen.scores[index]
            instances.pred_classes = chosen.classes[index]
            found.append(instances)
        return found


def _check_panoptic(cfg: CfgNode, stats: DatasetStats) -> None:
    """Refuse panoptic data with more classes than the model, or other things."""
    given, classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, len(stats.stuff_names)
    if classes > given:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {given}, but the data have {classes} classes; auto "
            "follows the data."
        )
    things = {number for number in cfg.MODEL.DETR.PANOPTIC.THING_IDS if number < classes}
    if not things >= set(stats.thing_ids):  # of Detectron2's data sets, those that occur
        raise ConfigError(
            f"MODEL.DETR.PANOPTIC.THING_IDS lists {first_few(sorted(things))}, but of the data "
            f"{first_few(stats.thing_ids)} are things; auto follows the data."
        )


def build_criterion(cfg: CfgNode) -> SetCriterion:
    """Build matcher and losses from `MODEL.DETR.MATCHER` and `MODEL.DETR.LOSS`."""
    matching, loss = cfg.MODEL.DETR.MATCHER, cfg.MODEL.DETR.LOSS
    matcher = HungarianMatcher(
        class_weight=matching.CLASS_WEIGHT,
        l1_weight=matching.L1_WEIGHT,
        giou_weight=matching.GIOU_WEIGHT,
        classification=loss.CLASSIFICATION,
        focal_alpha=loss.FOCAL_ALPHA,
        focal_gamma=loss.FOCAL_GAMMA,
        giou_eps=loss.GIOU_EPS,
    )
    weights = {
        "loss_ce": loss.CLASS_WEIGHT,
        "loss_bbox": loss.L1_WEIGHT,
        "loss_giou": loss.GIOU_WEIGHT,
        "loss_mask": loss.MASK_WEIGHT,
        "loss_dice": loss.DICE_WEIGHT,
    }
    return SetCriterion(matcher, weights, loss.NO_OBJECT_WEIGHT)


def num_logits(cfg: CfgNode) -> int:
    """Return the width of class heads: one more than the classes under softmax classification."""
    panoptic = cfg.MODEL.DETR.PANOPTIC.ENABLED
    classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES if panoptic else cfg.MODEL.DETR.NUM_CLASSES
    return classes + (cfg.MODEL.DETR.LOSS.CLASSIFICATION == "softmax")


def prior_bias(prior: float) -> float:
    """Return the bias of class heads whose sigmoid is `prior`."""
    return torch.logit(torch.tensor(prior)).item()
