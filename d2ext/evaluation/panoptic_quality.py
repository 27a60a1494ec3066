"""Panoptic quality: matching of predicted and annotated segments, and the sums per class.

Source: Kirillov et al., "Panoptic Segmentation", 2019, arXiv:1801.00868, section 4; Cheng et al.,
"Boundary IoU", 2021, arXiv:2103.16562, for the boundary PQ. Void pixels and crowd segments count as
COCO's evaluation counts them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2ext.data.formats.dataset_split import Item
from d2ext.data.segment_maps import Ids, position_map, positions_of, run_starts
from d2ext.evaluation.boundary_iou import segment_boundaries

Counts = NDArray[np.float64]


@dataclass
class PanopticCounts:
    """Matched and unmatched segments per class; counts of several images add up.

    Attributes:
        iou: (K,) sum of the IoU of matched segments.
        matched: (K,) true positives.
        extra: (K,) predicted segments without a match: false positives.
        missed: (K,) annotated segments without a match: false negatives.
    """

    iou: Counts
    matched: Counts
    extra: Counts
    missed: Counts

    @classmethod
    def zeros(cls, num_classes: int) -> "PanopticCounts":
        return cls(*np.zeros((4, num_classes)))

    def __iadd__(self, other: "PanopticCounts") -> "PanopticCounts":
        for name, values in vars(other).items():
            getattr(self, name).__iadd__(values)
        return self

    def per_class(self) -> NDArray[np.float64]:
        """Return the (K, 3) PQ, SQ and RQ of each class, 0 to 1; NaN for classes without segments.

        SQ is 0 where nothing is matched, as COCO has it.
        """
        weight = self.matched + (self.extra + self.missed) / 2
        with np.errstate(invalid="ignore"):
            pq, rq = self.iou / weight, self.matched / weight
        sq = self.iou / np.maximum(self.matched, 1)
        return np.stack((pq, np.where(weight > 0, sq, np.nan), rq), axis=1)

    def means(self, classes: Collection[int]) -> NDArray[np.float64]:
        """Return (3,) PQ, SQ and RQ, averaged over those of `classes` that have segments."""
        found = self.per_class()[list(classes)]
        found = found[~np.isnan(found[:, 0])]
        return found.mean(axis=0) if len(found) else np.full(3, np.nan)


def match_segments(
    annotated: Ids,
    truth: Sequence[Item],
    predicted: Ids,
    found: Sequence[Item],
    num_classes: int,
    boundary: bool = False,
) -> PanopticCounts:
    """Match the segments of an image: those of one class that overlap by an IoU above 0.5.

    Args:
        annotated: (H, W) ids; pixels of other ids than those of `truth` are void.
        truth: annotated segments: "id", "category_id", "iscrowd", and perhaps "area" in pixels.
        predicted: (H, W) ids; 0 or an id that `found` lacks is no segment.
        found: predicted segments: "id" and "category_id".
        boundary: the smaller of IoU and boundary IoU counts.
    """
    overlaps = _overlaps(annotated, truth, predicted, found)
    counts = PanopticCounts.zeros(num_classes)
    if not (truth or found):
        return counts
    ours = np.array([segment["category_id"] for segment in found], dtype=np.int64)
    theirs = np.array([segment["category_id"] for segment in truth], dtype=np.int64)
    crowd = np.array([bool(segment.get("iscrowd")) for segment in truth], dtype=bool)
    areas = overlaps[:, 1:].sum(axis=0)  # of predictions
    # The annotated area counts, as in COCO's evaluation, also where the segment map contradicts it.
    sizes = overlaps[1:].sum(axis=1)
    stated = [s.get("area", size) for s, size in zip(truth, sizes.tolist(), strict=True)]
    inside = overlaps[1:, 1:]
    unions = np.array(stated)[:, None] + areas - inside - overlaps[0, 1:]
    candidates = (theirs[:, None] == ours) & ~crowd[:, None] & (inside > 0)
    iou = np.divide(inside, unions, where=candidates, out=np.zeros(inside.shape))
    if boundary:
        iou = np.minimum(iou, _boundary_iou(annotated, truth, predicted, found))
    matches = iou > 0.5
    _add(counts.iou, np.broadcast_to(theirs[:, None], iou.shape)[matches], iou[matches])
    _add(counts.matched, theirs[matches.nonzero()[0]])
    _add(counts.missed, theirs[~crowd & ~matches.any(axis=1)])
    present = areas > 0
    ignored = _ignored(overlaps, theirs, crowd, ours) > areas / 2
    _add(counts.extra, ours[present & ~matches.any(axis=0) & ~ignored])
    return counts


def _overlaps(
    annotated: Ids, truth: Sequence[Item], predicted: Ids, found: Sequence[Item]
) -> NDArray[np.int64]:
    """Return the (1 + T, 1 + P) numbers of common pixels; row and column 0 are of no segment."""
    starts = run_starts(annotated, predicted)
    lengths = np.diff(starts, append=annotated.size)
    rows = positions_of(annotated.ravel()[starts], truth)
    columns = positions_of(predicted.ravel()[starts], found)
    shape = len(truth) + 1, len(found) + 1
    counts = np.bincount(rows * shape[1] + columns, lengths, minlength=shape[0] * shape[1])
    return counts.astype(np.int64).reshape(shape)


def _boundary_iou(
    annotated: Ids, truth: Sequence[Item], predicted: Ids, found: Sequence[Item]
) -> Counts:
    """Return the (T, P) IoU of the boundaries of segments; void pixels count nowhere."""
    theirs, ours = position_map(annotated, truth), position_map(predicted, found)
    inner = len(truth) + 1  # a row of its own: pixels inside segments are not void
    rows = np.where(segment_boundaries(theirs) | (theirs == 0), theirs, inner)
    columns = np.where(segment_boundaries(ours), ours, 0)
    shape = inner + 1, len(found) + 1
    pairs = (rows * shape[1] + columns).ravel()
    counts = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
    common, areas = counts[1:inner, 1:], counts[1:, 1:].sum(axis=0)
    unions = counts[1:inner].sum(axis=1)[:, None] + areas - common
    return common / np.maximum(unions, 1)


def _ignored(
    overlaps: NDArray[np.int64], theirs: NDArray, crowd: NDArray, ours: NDArray
) -> NDArray[np.int64]:
    """Return the pixels of each prediction that are void or in the crowd of its own class."""
    ignored = overlaps[0, 1:].copy()
    last = {label: row for row, label in enumerate(theirs.tolist(), start=1) if crowd[row - 1]}
    for column, label in enumerate(ours.tolist()):
        if label in last:  # of several crowds of a class COCO's evaluation knows the last one
            ignored[column] += overlaps[last[label], column + 1]
    return ignored


def _add(totals: Counts, classes: NDArray, values: NDArray | None = None) -> None:
    totals += np.bincount(classes, values, minlength=len(totals))
