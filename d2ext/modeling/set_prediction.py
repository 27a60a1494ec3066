"""Predictions and targets of models that predict a set of objects, one object per query."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.modeling.losses.boxes import xyxy_to_cxcywh
from detectron2.structures import BitMasks, Instances, PolygonMasks


@dataclass
class Matches:
    """Pairs of a query and a target, M in each of L layers.

    Attributes:
        image: (M,) int64, the image of a pair; the same in all layers.
        query: (L, M) int64, the index of the query in its image; ascending per image.
        target: (L, M) int64, the index of the target among those of the whole batch.
    """

    image: Tensor
    query: Tensor
    target: Tensor


@dataclass
class SetPredictions:
    """Predictions of L layers on B images with Q queries each.

    Attributes:
        logits: (L, B, Q, K) class logits; K includes "no object" under softmax classification.
        boxes: (L, B, Q, 4) normalised cxcywh.
        name: the suffix of the losses, e.g. "enc" or "dn"; "" for the decoder's own predictions.
        class_agnostic: every target counts as class 0, as for class-agnostic proposals.
        matches: pairs known beforehand, as in denoising; None asks for Hungarian matching.
        repeats: number of queries that share one target, as in denoising groups.
        masks: (B, Q, h, w) mask logits of the last layer, for models that predict masks.
    """

    logits: Tensor
    boxes: Tensor
    name: str = ""
    class_agnostic: bool = False
    matches: Matches | None = None
    repeats: int = 1
    masks: Tensor | None = None

    def layer_names(self) -> list[str]:
        """Return the loss suffix of each layer: "_0", "_1", ... and "" for the last one."""
        prefix = f"_{self.name}" if self.name else ""
        last = len(self.logits) - 1
        return [f"{prefix}_{layer}" if layer < last else prefix for layer in range(last + 1)]

    def last_layer(self) -> "SetPredictions":
        """Return the predictions of the last layer alone."""
        matches = self.matches
        if matches is not None:
            matches = Matches(matches.image, matches.query[-1:], matches.target[-1:])
        return replace(self, logits=self.logits[-1:], boxes=self.boxes[-1:], matches=matches)


@dataclass
class SetTargets:
    """Objects of B images, T in all, image after image.

    Attributes:
        classes: (T,) int64.
        boxes: (T, 4) float32, cxcywh normalised by the size of the unpadded image.
        counts: number of objects per image.
        image_names: name of each image, for error messages.
        masks: (T, H, W) bool at the padded size of the batch, for models that predict masks.
    """

    classes: Tensor
    boxes: Tensor
    counts: list[int]
    image_names: list[str]
    masks: Tensor | None = None

    @classmethod
    def from_instances(
        cls, instances: Instances, image_name: str = "", with_masks: bool = False
    ) -> "SetTargets":
        """Build one image's targets from `gt_classes`, `gt_boxes` (XYXY pixels), `gt_masks`."""
        height, width = instances.image_size
        boxes = xyxy_to_cxcywh(instances.gt_boxes.tensor.float())
        size = boxes.new_tensor([width, height, width, height])
        masks = _bitmasks(instances) if with_masks else None
        return cls(instances.gt_classes, boxes / size, [len(instances)], [image_name], masks)

    @classmethod
    def cat(cls, targets: Sequence["SetTargets"]) -> "SetTargets":
        """Concatenate the targets of several images, masks padded to the largest of them."""
        masks = [each.masks for each in targets if each.masks is not None]
        return cls(
            torch.cat([each.classes for each in targets]),
            torch.cat([each.boxes for each in targets]),
            [count for each in targets for count in each.counts],
            [name for each in targets for name in each.image_names],
            _padded(masks) if masks else None,
        )

    def image_index(self) -> Tensor:
        """Return the image of each target: (T,) int64 on the device of the targets."""
        index = torch.arange(len(self.counts)).repeat_interleave(torch.tensor(self.counts))
        return index.to(self.boxes.device, non_blocking=True)


def _bitmasks(instances: Instances) -> Tensor:
    """Return `gt_masks`, polygons or bit masks, as (n, H, W) bool on the device of the boxes."""
    masks = instances.gt_masks
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *instances.image_size)
    return masks.tensor.to(instances.gt_boxes.device)


def _padded(masks: Sequence[Tensor]) -> Tensor:
    height, width = (max(each.shape[axis] for each in masks) for axis in (1, 2))
    sizes = [(0, width - each.shape[2], 0, height - each.shape[1]) for each in masks]
    return torch.cat([F.pad(each, size) for each, size in zip(masks, sizes, strict=True)])


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half types to float32: matching and losses overflow or round in them."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
