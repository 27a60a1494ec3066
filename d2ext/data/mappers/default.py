"""The default dataset mapper and the panoptic one: what of the data a config's model learns."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from d2ext.config import learns_rotated_boxes
from d2ext.data.augmentation.annotated_image import (
    AnnotationTransform,
    Item,
    read_annotated_image,
)
from d2ext.data.augmentation.multi_image import build_multi_image_augmentations
from d2ext.data.augmentation.resize import replace_resizing
from d2ext.data.augmentation.single_image import build_augmentations
from d2ext.data.formats.keypoint_names import one_sided
from d2ext.data.mappers.registry import DEFAULT, Items, Mapper, Mode, register_mapper
from d2ext.data.mappers.train import TrainMapper
from d2ext.data.segment_maps import thing_numbers
from d2ext.data.separate_things import semantic_numbers, separates_things
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

_logger = logging.getLogger(__name__)


def build_default_mapper(cfg: CfgNode, mode: Mode, items: Items) -> Mapper:
    """Build the mapper for detection, instance, keypoint and semantic segmentation models."""
    if mode == "train":
        return build_train_mapper(cfg, items)
    return build_validation_mapper(cfg) if mode == "validation" else build_test_mapper(cfg)


register_mapper(DEFAULT, build_default_mapper)


def build_panoptic_mapper(cfg: CfgNode, mode: Mode, items: Items) -> Mapper:
    """Build the mapper for models of panoptic segments: "instances" holds things and stuff.

    "gt_classes" are the categories of the data, as `stuff_classes` of its metadata names them, and
    "gt_masks" are `BitMasks`. Crowd segments are left out. The default mapper returns only the
    things of panoptic data, numbered as in `thing_classes`. Both return "sem_seg", (H, W) int64,
    in which every segment has its category.
    """
    if mode == "train":
        return build_train_mapper(cfg, items, all_segments=True)
    return build_validation_mapper(cfg, True) if mode == "validation" else build_test_mapper(cfg)


register_mapper("panoptic", build_panoptic_mapper)


def build_train_mapper(cfg: CfgNode, items: Items = (), all_segments: bool = False) -> TrainMapper:
    """Build the training mapper: Detectron2's augmentations, then d2ext's.

    Args:
        cfg: reads INPUT, and from MODEL which annotations the model learns from.
        items: the training set, for augmentations that combine several images.
        all_segments: see `build_panoptic_mapper`.
    Raises:
        ConfigError: an option is out of range, or does not go with another.
    """
    options = DatasetMapper.from_config(cfg, is_train=True)
    augmentations = replace_resizing(cfg, options["augmentations"]) + build_augmentations(cfg)
    multi_image = build_multi_image_augmentations(cfg)
    mirrors = bool(multi_image) or any(isinstance(a, T.RandomFlip) for a in augmentations)
    if mirrors and (reason := _blind_flips(cfg)):
        augmentations, mirrors = _without_flips(cfg, augmentations, reason), False
    transform = _annotation_transform(cfg, options, cfg.INPUT.MIN_VISIBLE)
    return TrainMapper(
        augmentations=augmentations,
        multi_image=multi_image,
        items=items,
        annotation_transform=replace(transform, mirrors=mirrors),
        cuts=bool(multi_image) or options["recompute_boxes"] or cfg.INPUT.ROTATION > 0,
        **_model_options(cfg, options, all_segments),
    )


def _blind_flips(cfg: CfgNode) -> str:
    """Return why images must not be mirrored; "" if they may be.

    Where no keypoints are known to change places in a mirrored image, a left eye would keep its
    name on the right, so half of the labels would contradict the others.
    """
    known = cfg.DATASETS.TRAIN and MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    if not cfg.MODEL.KEYPOINT_ON or not known or len(known.get("keypoint_names", ())) < 2:
        return ""
    pairs = known.get("keypoint_flip_map", ())
    if alone := one_sided(known.keypoint_names, pairs):
        return f"no partner is known for the keypoints {', '.join(alone)}"
    if not pairs:
        return "no pairs of keypoints (left and right in their names, or flip_idx) are known"
    return ""


def _without_flips(
    cfg: CfgNode, augmentations: Sequence[T.Augmentation], reason: str
) -> list[T.Augmentation]:
    """Drop flips in both directions, each of which mirrors, and log the reason."""
    _logger.warning("%s: %s, so images are not mirrored.", ", ".join(cfg.DATASETS.TRAIN), reason)
    return [a for a in augmentations if not isinstance(a, T.RandomFlip)]


def build_test_mapper(cfg: CfgNode) -> "EvaluationMapper":
    """Build the mapper for evaluation, with the resizing of `INPUT.RESIZE`."""
    options = DatasetMapper.from_config(cfg, is_train=False)
    options["augmentations"] = replace_resizing(cfg, options["augmentations"])
    return EvaluationMapper(**options)


class EvaluationMapper(DatasetMapper):
    """Detectron2's mapper for evaluation, which reads images as training does."""

    def __call__(self, item: Item) -> Item:
        """Map one dict; `item` itself is not changed.

        Returns:
            The dict with "image", (C, H, W) uint8, and "sem_seg" and "proposals" where the data
            set has them; without annotations.
        """
        annotations = {"annotations", "sem_seg_file_name"}
        mapped = copy.deepcopy({k: v for k, v in item.items() if k not in annotations})
        labels = {k: item[k] for k in ("sem_seg_file_name",) if k in item}
        found = read_annotated_image(mapped | labels, self.image_format)
        given = T.AugInput(found.image, sem_seg=found.sem_seg)
        transforms = self.augmentations(given)
        mapped["image"] = torch.as_tensor(np.ascontiguousarray(given.image.transpose(2, 0, 1)))
        if given.sem_seg is not None:
            mapped["sem_seg"] = torch.as_tensor(given.sem_seg.astype("long"))
        if self.proposal_topk is not None:
            size = given.image.shape[:2]
            utils.transform_proposals(mapped, size, transforms, proposal_topk=self.proposal_topk)
        return mapped


def build_validation_mapper(cfg: CfgNode, all_segments: bool = False) -> TrainMapper:
    """Build the mapper for the validation loss: test-time resizing, annotations, nothing random."""
    options = DatasetMapper.from_config(cfg, is_train=True)
    return TrainMapper(
        augmentations=replace_resizing(cfg, utils.build_augmentation(cfg, is_train=False)),
        annotation_transform=_annotation_transform(cfg, options, 0.0),
        **_model_options(cfg, options, all_segments),
    )


def _annotation_transform(
    cfg: CfgNode, options: dict[str, Any], min_visible: float
) -> AnnotationTransform:
    ignore = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    return AnnotationTransform(ignore, options.get("keypoint_hflip_indices"), min_visible)


def _model_options(cfg: CfgNode, options: dict[str, Any], all_segments: bool) -> dict[str, Any]:
    """Return the mapper's options that follow from what the model learns."""
    return {
        "image_format": options["image_format"],
        "segment_classes": None if all_segments else _thing_classes(cfg),
        "semantic_classes": None if all_segments else _semantic_classes(cfg),
        "masks": options["use_instance_mask"] or all_segments,
        "mask_format": options["instance_mask_format"],
        "keypoints": cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS if options["use_keypoint"] else 0,
        "rotated": learns_rotated_boxes(cfg),
        "undirected": cfg.INPUT.UNDIRECTED_BOXES,
        "proposal_topk": options.get("precomputed_proposal_topk"),
    }


def _thing_classes(cfg: CfgNode) -> dict[int, int]:
    """Return the class of each thing category of panoptic data: things are counted alone."""
    names = cfg.DATASETS.TRAIN[:1]
    return thing_numbers(MetadataCatalog.get(names[0]).get("isthing", ()) if names else ())


def _semantic_classes(cfg: CfgNode) -> list[int] | None:
    """Return the class of each category where the semantic head counts things and stuff apart."""
    if not separates_things(cfg):
        return None
    return semantic_numbers(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).isthing)
