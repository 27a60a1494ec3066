"""`TrainMapper`: one dict of an image, augmented, as the tensors and `Instances` of training."""

import copy
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch

from d2ext.data.augmentation.annotated_image import (
    AnnotatedImage,
    AnnotationTransform,
    Item,
    read_annotated_image,
    upright_box,
)
from d2ext.data.augmentation.multi_image import MultiImageAugmentation
from d2ext.data.augmentation.slices import crop_to_slice
from d2ext.data.formats.corners import long_side_first
from d2ext.data.mappers.registry import Items
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode, Instances


class TrainMapper:
    """Reads an image, augments it with all that is annotated on it, makes tensors and `Instances`.

    Args:
        augmentations: Detectron2's augmentations and transforms, in order.
        annotation_transform: how annotations follow.
        image_format: see `d2ext.data.image_reading.read_image`.
        multi_image: augmentations that draw further images, applied first.
        items: what they draw from: Detectron2's dicts.
        segment_classes: of panoptic data, the class of each thing category, others have their own
            number; stuff is left out. None: all segments are learned, by the data's categories.
        semantic_classes: of panoptic data, the semantic class of each category; None: the category.
        masks: learn masks; objects without one are left out.
        keypoints: number of keypoints to learn per object; objects without any get unlabelled
            ones, so that their boxes are learned. 0: none are learned.
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
        multi_image: Sequence[MultiImageAugmentation] = (),
        items: Items = (),
        segment_classes: Mapping[int, int] | None = None,
        semantic_classes: Sequence[int] | None = None,
        masks: bool = False,
        mask_format: str = "polygon",
        keypoints: int = 0,
        rotated: bool = False,
        undirected: bool = False,
        proposal_topk: int | None = None,
        cuts: bool = False,
    ) -> None:
        self.augmentations = T.AugmentationList(augmentations)
        self.annotation_transform = annotation_transform
        self.image_format, self.multi_image, self.items = image_format, multi_image, items
        self.segment_classes, self.semantic_classes = segment_classes, semantic_classes
        self.masks, self.mask_format, self.keypoints = masks, mask_format, keypoints
        self.rotated, self.undirected = rotated, undirected
        self.proposal_topk = proposal_topk
        self.recompute_boxes = cuts and masks

    def __call__(self, item: Item) -> Item:
        """Map one dict; `item` itself is not changed.

        Returns:
            The dict with "image", (C, H, W) uint8. Where the data set has them, "instances",
            "sem_seg" (H, W) int64 and "proposals" replace "annotations".
        Raises:
            OSError, SizeMismatchError: see `read_annotated_image`.
        """
        item = copy.deepcopy(item)  # the dict may be shared with other workers
        annotated = self._read(item)
        for augmentation in self.multi_image:
            annotated = augmentation(annotated, self._sample, self.annotation_transform)
        annotated, transforms = self.annotation_transform.augment(annotated, self.augmentations)
        item["image"] = torch.as_tensor(np.ascontiguousarray(annotated.image.transpose(2, 0, 1)))
        if annotated.sem_seg is not None:
            item.pop("sem_seg_file_name", None)
            item["sem_seg"] = self._semantic_labels(annotated.sem_seg)
        if self.proposal_topk is not None:
            utils.transform_proposals(
                item, annotated.size, transforms, proposal_topk=self.proposal_topk
            )
        if item.pop("annotations", None) is not None:
            item["instances"] = self._instances(annotated, self.mask_format)
        elif "segments_info" in item:
            item["instances"] = self._instances(annotated, "bitmask")
        return item

    def _semantic_labels(self, labels: np.ndarray) -> torch.Tensor:
        """Return labels (H, W) as int64, in the numbering of the semantic head."""
        found = torch.as_tensor(labels.astype("long"))
        if self.semantic_classes is None:
            return found
        classes = torch.tensor(self.semantic_classes)
        # Ignored pixels have a label beyond all categories.
        known = found < len(classes)
        return torch.where(known, classes[found.where(known, 0)], found)

    def _read(self, item: Item) -> AnnotatedImage:
        ignored = self.annotation_transform.ignore_value
        annotated = read_annotated_image(item, self.image_format, ignored)
        objects = [self._used(a) for a in annotated.annotations if self._is_learned(a)]
        return crop_to_slice(
            AnnotatedImage(annotated.image, objects, annotated.sem_seg),
            item,
            self.annotation_transform,
        )

    def _is_learned(self, annotation: Item) -> bool:
        has_mask = annotation.get("segmentation") is not None
        wanted = self.segment_classes is None or annotation.get("isthing", True)
        return not annotation.get("iscrowd", 0) and (has_mask or not self.masks) and wanted

    def _used(self, annotation: Item) -> Item:
        """Return the annotation with exactly what the model learns from."""
        unused = {"segmentation": not self.masks, "keypoints": not self.keypoints}
        used = {key: value for key, value in annotation.items() if not unused.get(key)}
        if self.keypoints and not used.get("keypoints"):
            used["keypoints"] = [0.0] * 3 * self.keypoints
        if "isthing" in used and self.segment_classes:
            category = used["category_id"]
            used["category_id"] = self.segment_classes.get(category, category)
        return used

    def _sample(self) -> AnnotatedImage:
        """Return a random image of the training set."""
        return self._read(copy.deepcopy(self.items[np.random.randint(len(self.items))]))

    def _instances(self, annotated: AnnotatedImage, mask_format: str) -> Instances:
        if self.rotated:
            boxes = [{**a, "bbox": self._rotated_box(a)} for a in annotated.annotations]
            instances = utils.annotations_to_instances_rotated(boxes, annotated.size)
        else:
            boxes = [_enclosed(annotation) for annotation in annotated.annotations]
            instances = utils.annotations_to_instances(
                boxes, annotated.size, mask_format=mask_format
            )
            instances.gt_boxes.clip(annotated.size)
        if self.recompute_boxes and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return cast(Instances, utils.filter_empty_instances(instances))

    def _rotated_box(self, annotation: Item) -> list[float]:
        box = _as_rotated(annotation)
        return long_side_first(box) if self.undirected else box


def _enclosed(annotation: Item) -> Item:
    """Return the annotation with an upright XYXY box."""
    return {**annotation, "bbox": upright_box(annotation), "bbox_mode": BoxMode.XYXY_ABS}


def _as_rotated(annotation: Item) -> list[float]:
    """Convert a box of any mode to [x, y, w, h, angle]."""
    box, mode = np.asarray(annotation["bbox"], dtype=float).tolist(), annotation["bbox_mode"]
    if mode == BoxMode.XYWHA_ABS:
        return box
    box = BoxMode.convert(box, mode, BoxMode.XYWH_ABS)
    return list(BoxMode.convert(box, BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS))
