"""Predictions and targets of models that predict a set of objects, one object per query."""

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    image_names: list[str] = field(default_factory=list)

    @classmethod
    def from_instances(
        cls, instances: Sequence[Instances], device: torch.device, image_names: Sequence[str] = ()
    ) -> "SetTargets":
        """Build the targets from `gt_classes` and `gt_boxes` (XYXY pixels of `image_size`)."""
        boxes = [_normalized_boxes(each) for each in instances]
        classes = [each.gt_classes for each in instances]
        return cls(
            torch.cat(classes).to(device, non_blocking=True),
            torch.cat(boxes).to(device, non_blocking=True),
            [len(each) for each in instances],
            list(image_names),
        )

    def image_index(self) -> Tensor:
        """Return the image of each target: (T,) int64 on the device of the targets."""
        index = torch.arange(len(self.counts)).repeat_interleave(torch.tensor(self.counts))
        return index.to(self.boxes.device, non_blocking=True)


def _normalized_boxes(instances: Instances) -> Tensor:
    height, width = instances.image_size
    boxes = instances.gt_boxes.tensor.float()
    return xyxy_to_cxcywh(boxes) / boxes.new_tensor([width, height, width, height])
