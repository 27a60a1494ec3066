"""Predictions and targets of models that predict a set of masks, one per query."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.structures import BitMasks, Instances, PolygonMasks


@dataclass
class MaskPredictions:
    """Predictions of L layers on B images with Q queries each.

    Attributes:
        logits: (L, B, Q, K + 1) class logits; the last class is "no object".
        masks: (B, Q, h, w) mask logits per layer.
    """

    logits: Tensor
    masks: list[Tensor]

    def loss_suffixes(self) -> list[str]:
        """Return the suffix of each layer's losses: "_0", "_1", ... and "" for the last one."""
        return [*(f"_{layer}" for layer in range(len(self.masks) - 1)), ""]

    def layer_names(self) -> list[str]:
        """Return the name of each layer: "0", "1", ... and "final"."""
        return [suffix.lstrip("_") or "final" for suffix in self.loss_suffixes()]


@dataclass
class MaskTargets:
    """Masks of B images, T in all, image after image.

    Attributes:
        classes: (T,) int64.
        masks: (T, H, W) bool.
        counts: number of masks per image.
        image_names: name of each image, for error messages.
    """

    classes: Tensor
    masks: Tensor
    counts: list[int]
    image_names: list[str]

    @classmethod
    def from_instances(cls, instances: Instances, image_name: str = "") -> "MaskTargets":
        """Build one image's targets from `gt_classes` and `gt_masks`, polygons or bit masks.

        Instances of an image without objects may lack the masks.
        """
        if not len(instances):
            empty = torch.zeros((0, *instances.image_size), dtype=torch.bool)
            classes = instances.gt_classes.new_zeros(0, dtype=torch.int64)
            return cls(classes, empty.to(classes.device), [0], [image_name])
        masks = instances.gt_masks
        if isinstance(masks, PolygonMasks):
            masks = BitMasks.from_polygon_masks(masks, *instances.image_size)
        tensor = masks.tensor.to(instances.gt_classes.device)
        return cls(instances.gt_classes, tensor, [len(instances)], [image_name])

    @classmethod
    def from_semantic(cls, labels: Tensor, ignore: int, image_name: str = "") -> "MaskTargets":
        """Build one image's targets, a mask per class that occurs, from (H, W) labels."""
        classes = labels.unique()
        classes = classes[classes != ignore]
        return cls(classes, labels == classes[:, None, None], [len(classes)], [image_name])

    @classmethod
    def cat(cls, targets: Sequence["MaskTargets"], size: Sequence[int]) -> "MaskTargets":
        """Concatenate the targets of several images, masks padded to `size` (height, width)."""
        return cls(
            torch.cat([each.classes for each in targets]),
            torch.cat([_padded(each.masks, size) for each in targets]),
            [count for each in targets for count in each.counts],
            [name for each in targets for name in each.image_names],
        )


def _padded(masks: Tensor, size: Sequence[int]) -> Tensor:
    return F.pad(masks, (0, size[1] - masks.shape[2], 0, size[0] - masks.shape[1]))
