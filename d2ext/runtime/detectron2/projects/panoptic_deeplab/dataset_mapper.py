"""The dataset mapper of Panoptic-DeepLab: scale, crop and flip, then training targets."""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.evaluation.panoptic_quality import rgb2id

from .target_generator import PanopticDeepLabTargetGenerator

__all__ = ["PanopticDeeplabDatasetMapper"]


class PanopticDeeplabDatasetMapper:
    """Reads an image and its segment map, and makes the targets of the transformed map.

    Args:
        augmentations: augmentations or transforms, applied in order.
        image_format: see `detection_utils.read_image`.
        panoptic_target_generator: called with (H, W) segment ids and "segments_info".
    """

    @configurable
    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        panoptic_target_generator: Callable[..., dict[str, Any]],
    ) -> None:
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.panoptic_target_generator = panoptic_target_generator
        logging.getLogger(__name__).info("Augmentations used in training: %s", augmentations)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        inputs, meta = cfg.INPUT, MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
        generator = PanopticDeepLabTargetGenerator(
            ignore_label=meta.ignore_label,
            thing_ids=[*meta.thing_dataset_id_to_contiguous_id.values()],
            sigma=inputs.GAUSSIAN_SIGMA,
            ignore_stuff_in_offset=inputs.IGNORE_STUFF_IN_OFFSET,
            small_instance_area=inputs.SMALL_INSTANCE_AREA,
            small_instance_weight=inputs.SMALL_INSTANCE_WEIGHT,
            ignore_crowd_in_semantic=inputs.IGNORE_CROWD_IN_SEMANTIC,
        )
        return {
            "augmentations": _augmentations(cfg),
            "image_format": inputs.FORMAT,
            "panoptic_target_generator": generator,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map the dict of one image; the argument is not changed.

        Args:
            dataset_dict: with "file_name", "pan_seg_file_name" and "segments_info".

        Returns:
            The dict with "image", (C, H, W) in `image_format`, and the targets of the generator.
        """
        dataset_dict = copy.deepcopy(dataset_dict)
        image = utils.read_image(dataset_dict["file_name"], format=self.image_format)
        utils.check_image_size(dataset_dict, image)
        # Colours, not ids: they are resized by nearest neighbour as 8-bit labels are.
        colors = utils.read_image(dataset_dict.pop("pan_seg_file_name"), "RGB")
        aug_input = T.AugInput(image, sem_seg=colors)
        self.augmentations(aug_input)
        image = np.ascontiguousarray(aug_input.image.transpose(2, 0, 1))
        ids = rgb2id(aug_input.sem_seg)
        targets = self.panoptic_target_generator(ids, dataset_dict["segments_info"])
        return {**dataset_dict, "image": torch.as_tensor(image), **targets}


def _augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    inputs = cfg.INPUT
    sizes, sampling = inputs.MIN_SIZE_TRAIN, inputs.MIN_SIZE_TRAIN_SAMPLING
    crop = [T.RandomCrop(inputs.CROP.TYPE, inputs.CROP.SIZE)] if inputs.CROP.ENABLED else []
    resize = T.ResizeShortestEdge(sizes, inputs.MAX_SIZE_TRAIN, sampling)
    return [resize, *crop, T.RandomFlip()]
