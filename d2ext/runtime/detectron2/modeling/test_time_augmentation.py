"""Test-time augmentation (TTA): detections merged over sizes and flips of the image."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detectron2.config import configurable
from detectron2.data.detection_utils import read_image
from detectron2.data.transforms import (
    AugInput,
    AugmentationList,
    HFlipTransform,
    NoOpTransform,
    RandomFlip,
    ResizeShortestEdge,
    ResizeTransform,
    TransformList,
)
from detectron2.structures import Boxes, Instances

from .meta_arch import GeneralizedRCNN
from .postprocessing import detector_postprocess
from .roi_heads.fast_rcnn import fast_rcnn_inference_single_image

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = ["DatasetMapperTTA", "GeneralizedRCNNWithTTA"]


class DatasetMapperTTA:
    """Mapper from one image to its augmented versions: every size, each also flipped.

    Args:
        min_sizes: lengths of the shorter side, in pixels.
        max_size: limit of the longer side, in pixels.
        flip: also flip each size horizontally.
    """

    @configurable
    def __init__(self, min_sizes: Sequence[int], max_size: int, flip: bool) -> None:
        self.min_sizes = min_sizes
        self.max_size = max_size
        self.flip = flip

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        section = cfg.TEST.AUG
        return {
            "min_sizes": section.MIN_SIZES,
            "max_size": section.MAX_SIZE,
            "flip": section.FLIP,
        }

    def __call__(self, dataset_dict: dict) -> list[dict]:
        """Return copies of the dict with augmented images and their transforms.

        Each has another "image" (C, H, W) uint8, and "transforms" from the original image ("height"
        and "width") to it.
        """
        image = dataset_dict["image"].permute(1, 2, 0).numpy()
        size, original = image.shape[:2], (dataset_dict["height"], dataset_dict["width"])
        before = NoOpTransform() if size == original else ResizeTransform(*original, *size)
        versions = []
        for min_size in self.min_sizes:
            resize = ResizeShortestEdge(min_size, self.max_size)
            for flips in ([], [RandomFlip(prob=1.0)]) if self.flip else ([],):
                augmented = AugInput(image.copy())
                transforms = AugmentationList([resize, *flips])(augmented)
                version = copy.deepcopy(dataset_dict)
                pixels = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
                version["image"] = torch.from_numpy(pixels)
                version["transforms"] = TransformList([before]) + transforms
                versions.append(version)
        return versions


class GeneralizedRCNNWithTTA(nn.Module):
    """`GeneralizedRCNN` with test-time augmentation.

    NMS is applied to the boxes of all versions together; the masks of the remaining boxes are
    averaged over all versions.

    Args:
        cfg: config of the model.
        model: the model, optionally inside `DistributedDataParallel`.
        tta_mapper: maps a dict of one image, with "image", "height" and "width", to dicts of its
            versions with "transforms"; by default `DatasetMapperTTA` of the config.
        batch_size: versions per batch.

    Raises:
        ValueError: a model with keypoints or with proposals from files.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        tta_mapper: Callable[[dict], list[dict]] | None = None,
        batch_size: int = 3,
    ) -> None:
        super().__init__()
        if isinstance(model, DistributedDataParallel):
            model = model.module
        if not isinstance(model, GeneralizedRCNN):
            raise TypeError(f"augmentation is for a GeneralizedRCNN, not {type(model).__name__}")
        if cfg.MODEL.KEYPOINT_ON or cfg.MODEL.LOAD_PROPOSALS:
            raise ValueError("augmentation has no KEYPOINT_ON and no LOAD_PROPOSALS")
        self.cfg = cfg.clone()
        self.model = model
        self.tta_mapper: Any = tta_mapper or DatasetMapperTTA(cfg)
        self.batch_size = batch_size

    @contextmanager
    def _turn_off_roi_heads(self, attrs: Sequence[str]) -> Iterator[None]:
        """Set those of the attributes ("mask_on", ...) that the RoI heads have to False."""
        heads = self.model.roi_heads
        before = {name: getattr(heads, name) for name in attrs if hasattr(heads, name)}
        for name in before:
            setattr(heads, name, False)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(heads, name, value)

    def __call__(self, batched_inputs: list[dict]) -> list[dict[str, Instances]]:
        """Return the detections of each image, as the model does.

        Each dict needs only "image" or "file_name"; the image must not be resized yet.
        """
        return [self._inference_one_image(self._with_image(x)) for x in batched_inputs]

    def _with_image(self, dataset_dict: dict) -> dict:
        full = copy.copy(dataset_dict)
        if "image" not in full:
            pixels = read_image(full.pop("file_name"), self.model.input_format)
            full["image"] = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        if "height" not in full and "width" not in full:
            full["height"], full["width"] = full["image"].shape[1:]
        return full

    def _inference_one_image(self, input: dict) -> dict[str, Instances]:
        size = (input["height"], input["width"])
        versions, transforms = self._get_augmented_inputs(input)
        with self._turn_off_roi_heads(["mask_on", "keypoint_on"]):
            found = self._get_augmented_boxes(versions, transforms)
        merged = self._merge_detections(*found, size)
        if not self.cfg.MODEL.MASK_ON:
            return {"instances": merged}
        boxes = self._rescale_detected_boxes(versions, merged, transforms)
        merged.pred_masks = self._reduce_pred_masks(
            self._batch_inference(versions, boxes), transforms
        )
        return {"instances": detector_postprocess(merged, *size)}

    def _get_augmented_inputs(self, input: dict) -> tuple[list[dict], list[Any]]:
        """Return the augmented versions of an image, and the transforms from the original."""
        versions = self.tta_mapper(input)
        return versions, [version.pop("transforms") for version in versions]

    def _batch_inference(
        self, batched_inputs: list[dict], detected_instances: list[Instances] | None = None
    ) -> list[Instances]:
        """Run the model in batches; detections are in the coordinates of each input."""
        outputs: list[Instances] = []
        for start in range(0, len(batched_inputs), self.batch_size):
            part = slice(start, start + self.batch_size)
            given = None if detected_instances is None else detected_instances[part]
            outputs += self.model.inference(batched_inputs[part], given, do_postprocess=False)
        return outputs

    def _get_augmented_boxes(
        self, augmented_inputs: list[dict], tfms: list[Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes (N, 4) of all versions in the original image, scores and classes (N,)."""
        outputs = self._batch_inference(augmented_inputs)
        boxes = []
        for found, transform in zip(outputs, tfms, strict=True):
            here = found.pred_boxes.tensor
            original = transform.inverse().apply_box(here.cpu().numpy())
            boxes.append(torch.from_numpy(original).to(here))
        scores = torch.cat([found.scores for found in outputs])
        classes = torch.cat([found.pred_classes for found in outputs])
        return torch.cat(boxes), scores, classes

    def _merge_detections(
        self, all_boxes: Tensor, all_scores: Tensor, all_classes: Tensor, shape_hw: tuple[int, int]
    ) -> Instances:
        """Apply NMS within each class to the boxes of all versions."""
        classes = self.cfg.MODEL.ROI_HEADS.NUM_CLASSES
        scores = all_scores.new_zeros(len(all_boxes), classes + 1)
        scores[torch.arange(len(all_boxes), device=scores.device), all_classes] = all_scores
        merged, _ = fast_rcnn_inference_single_image(
            all_boxes,
            scores,
            shape_hw,
            1e-8,  # only those set above
            self.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
            self.cfg.TEST.DETECTIONS_PER_IMAGE,
        )
        return merged

    def _rescale_detected_boxes(
        self, augmented_inputs: list[dict], merged_instances: Instances, tfms: list[Any]
    ) -> list[Instances]:
        """Rescale the merged detections to the coordinates of each version."""
        merged = merged_instances.pred_boxes.tensor
        rescaled = []
        for version, transform in zip(augmented_inputs, tfms, strict=True):
            boxes = torch.from_numpy(transform.apply_box(merged.cpu().numpy())).to(merged)
            found = Instances(tuple(version["image"].shape[1:3]))
            found.pred_boxes = Boxes(boxes)
            found.pred_classes = merged_instances.pred_classes
            found.scores = merged_instances.scores
            rescaled.append(found)
        return rescaled

    def _reduce_pred_masks(self, outputs: list[Instances], tfms: list[Any]) -> Tensor:
        """Average masks over versions, flipped ones flipped back: (N, 1, M, M)."""
        masks = [
            found.pred_masks.flip(dims=[3]) if _is_flipped(transform) else found.pred_masks
            for found, transform in zip(outputs, tfms, strict=True)
        ]
        return torch.stack(masks).mean(dim=0)


def _is_flipped(transform: Any) -> bool:
    return any(isinstance(step, HFlipTransform) for step in transform.transforms)
