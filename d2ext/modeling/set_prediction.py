"""Predictions and targets of models that predict a set of objects, one object per query."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from d2ext.modeling.losses.boxes import xyxy_to_cxcywh
from detectron2.structures import Instances


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
    """

    logits: Tensor
    boxes: Tensor
    name: str = ""
    class_agnostic: bool = False
    matches: Matches | None = None
    repeats: int = 1

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
    """

    classes: Tensor
    boxes: Tensor
    counts: list[int]
    image_names: list[str]

    @classmethod
    def from_instances(cls, instances: Instances, image_name: str = "") -> "SetTargets":
        """Build one image's targets from `gt_classes` and `gt_boxes` (XYXY pixels)."""
        height, width = instances.image_size
        boxes = xyxy_to_cxcywh(instances.gt_boxes.tensor.float())
        size = boxes.new_tensor([width, height, width, height])
        return cls(instances.gt_classes, boxes / size, [len(instances)], [image_name])

    @classmethod
    def cat(cls, targets: Sequence["SetTargets"]) -> "SetTargets":
        """Concatenate the targets of several images."""
        return cls(
            torch.cat([each.classes for each in targets]),
            torch.cat([each.boxes for each in targets]),
            [count for each in targets for count in each.counts],
            [name for each in targets for name in each.image_names],
        )

    def image_index(self) -> Tensor:
        """Return the image of each target: (T,) int64 on the device of the targets."""
        index = torch.arange(len(self.counts)).repeat_interleave(torch.tensor(self.counts))
        return index.to(self.boxes.device, non_blocking=True)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half types to float32: matching and losses overflow or round in them."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
