"""From the masks of queries to panoptic segments: each pixel goes to the query that claims it most.

Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv:2005.12872,
section 4.4.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.structures import Instances

MIN_AREA = 5  # pixels of the output; smaller segments are dropped, as published


@dataclass(frozen=True)
class FoundMasks:
    """What a model with a mask head finds in an image.

    Attributes:
        instances: boxes, with the "query" that each comes from.
        logits: (Q, K) class logits.
        masks: (Q, h, w) mask logits, which cover the padded image.
        padded_size: height and width of the padded image.
    """

    instances: Instances
    logits: Tensor
    masks: Tensor
    padded_size: tuple[int, int]

    def resized(self, queries: Tensor) -> Tensor:
        """Return mask logits of (N,) queries at network resolution, without padding: (N, H, W)."""
        masks = self.masks[queries, None].float()
        masks = F.interpolate(masks, self.padded_size, mode="bilinear")[:, 0]
        height, width = self.instances.image_size
        return masks[:, :height, :width]


@dataclass(frozen=True)
class PanopticMerger:
    """Merges the masks of queries into one map of segments.

    Attributes:
        things: classes whose segments are kept apart; any other class has one segment.
        object_thresh: queries whose best class has no higher probability are left out.
        no_object: the last class is "no object"; scores are softmax, otherwise sigmoid.
    """

    things: frozenset[int]
    object_thresh: float
    no_object: bool

    def __call__(
        self, found: FoundMasks, size: tuple[int, int]
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return Detectron2's "panoptic_seg".

        Args:
            found: predictions on an image.
            size: height and width of the output.
        Returns:
            (*size) int32 ids, 0 where there is no segment at all; and per segment "id",
            "category_id" and "isthing".
        """
        queries, labels = self._objects(found.logits)
        masks = found.resized(queries)
        owner = _owners(masks, _first_of_stuff(labels.tolist(), self.things))
        while len(labels):
            pixels = _nearest(owner, size)
            large = torch.bincount(pixels.flatten(), minlength=len(labels)) >= MIN_AREA
            if large.all():
                break
            # The rest shares the pixels anew, also those of masks that were merged into another of
            # their class: so do the published results.
            masks, labels = masks[large], labels[large]
            owner = _owners(masks, range(len(labels)))
        segments = [
            {"id": index, "category_id": label, "isthing": label in self.things}
            for index, label in enumerate(labels.tolist(), start=1)
        ]
        ids = _nearest(owner, size) + 1 if segments else owner.new_zeros(size)
        return ids.to(torch.int32), segments

    def select_things(self, instances: Instances) -> Instances:
        """Return the instances of things, with classes that count things alone."""
        things = instances.pred_classes.new_tensor(sorted(self.things))
        found = instances[torch.isin(instances.pred_classes, things)]
        found.pred_classes = torch.searchsorted(things, found.pred_classes)
        return found

    def _objects(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the queries that found something, and their classes."""
        logits = logits.float()
        scores, labels = (logits.softmax(-1) if self.no_object else logits.sigmoid()).max(-1)
        kept = scores > self.object_thresh
        if self.no_object:
            kept &= labels != logits.shape[1] - 1
        return kept.nonzero()[:, 0], labels[kept]


def _first_of_stuff(labels: list[int], things: Collection[int]) -> list[int]:
    """Return the index that each label merges into: the first of its class, for stuff."""
    return [index if label in things else labels.index(label) for index, label in enumerate(labels)]


def _owners(masks: Tensor, merged: Collection[int]) -> Tensor:
    """Return the index of the largest of (N, H, W) logits per pixel, replaced by `merged`."""
    if not len(masks):
        return masks.new_zeros(masks.shape[1:], dtype=torch.int64)
    return torch.tensor([*merged], device=masks.device)[masks.argmax(0)]


def _nearest(owner: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an (H, W) map to `size` by nearest neighbour."""
    rows, columns = (
        torch.from_numpy(_source_pixels(old, new)).to(owner.device)
        for old, new in zip(owner.shape, size, strict=True)
    )
    return owner[rows[:, None], columns]


def _source_pixels(old: int, new: int) -> np.ndarray:
    """Return the pixel that the centre of each of `new` pixels lies in."""
    # Published results are resized by Pillow, which adds up the steps; where a centre lies on a
    # border of pixels, the rounding errors of the sum decide.
    steps = np.full(new, old / new)
    steps[0] /= 2
    return np.cumsum(steps).astype(np.int64).clip(max=old - 1)
