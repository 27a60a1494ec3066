"""The dataset mapper: from the dict of an image to the input of a model."""

import copy
import logging
from typing import Any

import numpy as np
import torch

from detectron2.config import CfgNode, configurable

from . import detection_utils as utils
from . import transforms as T

__all__ = ["DatasetMapper"]


class DatasetMapper:
    """The default mapper: read an image, augment it with its annotations, convert to tensors.

    Args:
        is_train: in training, annotations become "instances"; otherwise they are dropped.
        augmentations: augmentations or transforms, applied in order.
        image_format: see `detection_utils.read_image`.
        use_instance_mask: keep segmentations.
        use_keypoint: keep keypoints.
        instance_mask_format: "polygon" or "bitmask".
        keypoint_hflip_indices: see `detection_utils.create_keypoint_hflip_indices`.
        precomputed_proposal_topk: number of the dataset's own proposals to use; None for no
            proposals.
        recompute_boxes: compute boxes from the masks, which are tighter after a crop.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        use_instance_mask: bool = False,
        use_keypoint: bool = False,
        instance_mask_format: str = "polygon",
        keypoint_hflip_indices: np.ndarray | list[int] | None = None,
        precomputed_proposal_topk: int | None = None,
        recompute_boxes: bool = False,
    ) -> None:
        if recompute_boxes and not use_instance_mask:
            raise AssertionError("recompute_boxes requires instance masks")
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_instance_mask = use_instance_mask
        self.instance_mask_format = instance_mask_format
        self.use_keypoint = use_keypoint
        self.keypoint_hflip_indices = keypoint_hflip_indices
        self.proposal_topk = precomputed_proposal_topk
        self.recompute_boxes = recompute_boxes
        mode = "training" if is_train else "inference"
        logging.getLogger(__name__).info(
            "[DatasetMapper] Augmentations used in %s: %s", mode, augmentations
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        options: dict[str, Any] = {
            "is_train": is_train,
            "augmentations": utils.build_augmentation(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "use_keypoint": cfg.MODEL.KEYPOINT_ON,
            "recompute_boxes": False,
        }
        if cfg.INPUT.CROP.ENABLED and is_train:
            crop = T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE)
            # Before the resizing: crop sizes are relative to the original image.
            options["augmentations"].insert(0, crop)
            # A cropped object's box is looser than the box of its cropped mask.
            options["recompute_boxes"] = cfg.MODEL.MASK_ON
        if cfg.MODEL.KEYPOINT_ON:
            flips = utils.create_keypoint_hflip_indices(cfg.DATASETS.TRAIN)
            options["keypoint_hflip_indices"] = flips
        if cfg.MODEL.LOAD_PROPOSALS:
            split = "TRAIN" if is_train else "TEST"
            topk = cfg.DATASETS[f"PRECOMPUTED_PROPOSAL_TOPK_{split}"]
            options["precomputed_proposal_topk"] = topk
        return options

    def __call__(self, dataset_dict: dict) -> dict:
        """Map the dict of one image; the argument is not changed.

        Args:
            dataset_dict: one image in Detectron2's dataset format.

        Returns:
            The dict with "image" ((C, H, W) tensor in `image_format`) and, if the dataset has
            them, "sem_seg" ((H, W) int64), "proposals" and, in training, "instances".
        """
        # The mapper changes nested values; the dataset may hand out the same dict again.
        dataset_dict = copy.deepcopy(dataset_dict)
        image = utils.read_image(dataset_dict["file_name"], format=self.image_format)
        utils.check_image_size(dataset_dict, image)
        aug_input = T.AugInput(image, sem_seg=self._read_sem_seg(dataset_dict))
        transforms = self.augmentations(aug_input)
        dataset_dict["image"] = _channels_first(aug_input.image)
        if aug_input.sem_seg is not None:
            dataset_dict["sem_seg"] = torch.as_tensor(aug_input.sem_seg.astype("long"))
        size = aug_input.image.shape[:2]
        if self.proposal_topk is not None:
            utils.transform_proposals(
                dataset_dict, size, transforms, proposal_topk=self.proposal_topk
            )
        if not self.is_train:
            dataset_dict.pop("annotations", None)
        elif "annotations" in dataset_dict:
            self._transform_annotations(dataset_dict, transforms, size)
        return dataset_dict

    def _read_sem_seg(self, dataset_dict: dict) -> np.ndarray | None:
        if "sem_seg_file_name" not in dataset_dict:
            return None
        return utils.read_image(dataset_dict.pop("sem_seg_file_name"), "L").squeeze(2)

    def _transform_annotations(
        self, dataset_dict: dict, transforms: T.TransformList, image_shape: tuple[int, int]
    ) -> None:
        """Replace "annotations" by "instances"; crowds are dropped."""
        unused = {"segmentation": self.use_instance_mask, "keypoints": self.use_keypoint}
        unused_keys = {key for key, used in unused.items() if not used}
        objects = [
            utils.transform_instance_annotations(
                {key: value for key, value in annotation.items() if key not in unused_keys},
                transforms,
                image_shape,
                keypoint_hflip_indices=self.keypoint_hflip_indices,
            )
            for annotation in dataset_dict.pop("annotations")
            if annotation.get("iscrowd", 0) == 0
        ]
        instances = utils.annotations_to_instances(
            objects, image_shape, mask_format=self.instance_mask_format
        )
        if self.recompute_boxes:
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = utils.filter_empty_instances(instances)


def _channels_first(image: np.ndarray) -> torch.Tensor:
    # Contiguous: flips leave negative strides, which PyTorch does not support.
    return torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
