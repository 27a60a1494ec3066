"""From a data set's dict of an image to what a model trains on."""

import copy
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch

from d2ext.data.annotated_image import (
    AnnotatedImage,
    AnnotationTransform,
    Item,
    read_annotated_image,
    upright_box,
)
from d2ext.data.augment import extra_augmentations
from d2ext.data.formats.corners import long_side_first
from d2ext.data.mixing import MultiImageAugmentation, build_mixes
from d2ext.data.resize import with_resizing
from d2ext.data.slices import cut
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode, Instances


class Items(Protocol):
    """Detectron2's dicts by position; a list, or one that is shared between processes."""

    def __len__(self) -> int: ...
    def __getitem__(self, position: int, /) -> Item: ...


def build_train_mapper(cfg: CfgNode, items: Items = ()) -> "TrainMapper":
    """As Detectron2's mapper, with d2ext's augmentations after its crop, resizing and flip.

    Args:
        cfg: reads INPUT and what of an annotation the model uses.
        items: the data set, for augmentations that mix several images.
    Raises:
        ConfigError: an option is out of range, or does not go with another.
    """
    options = DatasetMapper.from_config(cfg, is_train=True)
    augmentations = with_resizing(cfg, options["augmentations"]) + extra_augmentations(cfg)
    mixes = build_mixes(cfg)
    return TrainMapper(
        augmentations=augmentations,
        mixes=mixes,
        items=items,
        annotation_transform=_motion(cfg, options, cfg.INPUT.MIN_VISIBLE),
        cuts=bool(mixes) or options["recompute_boxes"] or cfg.INPUT.ROTATION > 0,
        **_model_options(cfg, options),
    )


def build_test_mapper(cfg: CfgNode) -> DatasetMapper:
    """Detectron2's mapper for evaluation, resizing as `INPUT.RESIZE` says."""
    options = DatasetMapper.from_config(cfg, is_train=False)
    options["augmentations"] = with_resizing(cfg, options["augmentations"])
    return DatasetMapper(**options)


def build_loss_mapper(cfg: CfgNode) -> "TrainMapper":
    """Images resized as for testing, with annotations; nothing random."""
    options = DatasetMapper.from_config(cfg, is_train=True)
    return TrainMapper(
        augmentations=with_resizing(cfg, utils.build_augmentation(cfg, is_train=False)),
        annotation_transform=_motion(cfg, options, 0.0),
        **_model_options(cfg, options),
    )


def _motion(cfg: CfgNode, options: dict[str, Any], min_visible: float) -> AnnotationTransform:
    ignore = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    return AnnotationTransform(ignore, options.get("keypoint_hflip_indices"), min_visible)


def _model_options(cfg: CfgNode, options: dict[str, Any]) -> dict[str, Any]:
    """What the model uses."""
    return {
        "image_format": options["image_format"],
        "masks": options["use_instance_mask"],
        "mask_format": options["instance_mask_format"],
        "keypoints": options["use_keypoint"],
        "rotated": cfg.MODEL.ANCHOR_GENERATOR.NAME == "RotatedAnchorGenerator",
        "undirected": cfg.INPUT.UNDIRECTED_BOXES,
        "proposal_topk": options.get("precomputed_proposal_topk"),
    }


class TrainMapper:
    """Reads an image, augments it with all that is annotated on it, makes tensors and `Instances`.

    Args:
        augmentations: Detectron2's augmentations and transforms, in order.
        motion: how annotations follow.
        image_format: see `detectron2.data.detection_utils.read_image`.
        mixes: augmentations that draw further images, applied first.
        items: what they draw from: Detectron2's dicts.
        masks, keypoints: keep these annotations.
        mask_format: "polygon" or "bitmask".
        rotated: boxes become `RotatedBoxes`; otherwise rotated ones are enclosed by upright ones.
        undirected: rotated boxes have no front; of the four ways to write one, one is enough.
        proposal_topk: how many of the data set's own proposals to keep; None: no proposals.
        cuts: an augmentation may cut objects, so boxes are measured anew where there are masks.
    """

    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        annotation_transform: AnnotationTransform,
        image_format: str,
        mixes: Sequence[MultiImageAugmentation] = (),
        items: Items = (),
        masks: bool = False,
        mask_format: str = "polygon",
        keypoints: bool = False,
        rotated: bool = False,
        undirected: bool = False,
        proposal_topk: int | None = None,
        cuts: bool = False,
    ) -> None:
        self.augmentations, self.annotation_transform = (
            T.AugmentationList(augmentations),
            annotation_transform,
        )
        self.image_format, self.mixes, self.items = image_format, mixes, items
        self.masks, self.mask_format, self.keypoints = masks, mask_format, keypoints
        self.rotated, self.undirected = rotated, undirected
        self.proposal_topk = proposal_topk
        self.recompute_boxes = cuts and masks

    def __call__(self, item: Item) -> Item:
        """One image; the dict is left as it is.

        Returns:
            The dict with "image", (C, H, W) uint8, and where the data set has them "instances",
            "sem_seg" ((H, W) int64) and "proposals", in place of "annotations".
        Raises:
            OSError, SizeMismatchError: as of `read_annotated_image`.
        """
        item = copy.deepcopy(item)
        picture = self._read(item)
        for mix in self.mixes:
            picture = mix(picture, self._sample, self.annotation_transform)
        picture, transforms = self.annotation_transform.augmented(picture, self.augmentations)
        item["image"] = torch.as_tensor(np.ascontiguousarray(picture.image.transpose(2, 0, 1)))
        if picture.sem_seg is not None:
            del item["sem_seg_file_name"]
            item["sem_seg"] = torch.as_tensor(picture.sem_seg.astype("long"))
        if self.proposal_topk is not None:
            utils.transform_proposals(
                item, picture.size, transforms, proposal_topk=self.proposal_topk
            )
        if "annotations" in item:
            del item["annotations"]
            item["instances"] = self._instances(picture)
        return item

    def _read(self, item: Item) -> AnnotatedImage:
        picture = read_annotated_image(item, self.image_format)
        objects = [self._used(a) for a in picture.annotations if not a.get("iscrowd", 0)]
        return cut(
            AnnotatedImage(picture.image, objects, picture.sem_seg), item, self.annotation_transform
        )

    def _used(self, annotation: Item) -> Item:
        """Without what the model does not learn from."""
        unused = {"segmentation": not self.masks, "keypoints": not self.keypoints}
        return {key: value for key, value in annotation.items() if not unused.get(key)}

    def _sample(self) -> AnnotatedImage:
        """Any image of the data set."""
        return self._read(copy.deepcopy(self.items[np.random.randint(len(self.items))]))

    def _instances(self, picture: AnnotatedImage) -> Instances:
        if self.rotated:
            boxes = [{**a, "bbox": self._rotated_box(a)} for a in picture.annotations]
            instances = utils.annotations_to_instances_rotated(boxes, picture.size)
        else:
            boxes = [_enclosed(annotation) for annotation in picture.annotations]
            instances = utils.annotations_to_instances(
                boxes, picture.size, mask_format=self.mask_format
            )
            instances.gt_boxes.clip(picture.size)
        if self.recompute_boxes and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return cast(Instances, utils.filter_empty_instances(instances))

    def _rotated_box(self, annotation: Item) -> list[float]:
        box = _as_rotated(annotation)
        return long_side_first(box) if self.undirected else box


def _enclosed(annotation: Item) -> Item:
    """The object with an upright box."""
    return {**annotation, "bbox": upright_box(annotation), "bbox_mode": BoxMode.XYXY_ABS}


def _as_rotated(annotation: Item) -> list[float]:
    """[x, y, w, h, angle] of a box in any mode."""
    box, mode = np.asarray(annotation["bbox"], dtype=float).tolist(), annotation["bbox_mode"]
    if mode == BoxMode.XYWHA_ABS:
        return box
    box = BoxMode.convert(box, mode, BoxMode.XYWH_ABS)
    return list(BoxMode.convert(box, BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS))
