"""Panoptic quality (PQ).

Source: Kirillov et al. 2019, "Panoptic Segmentation", arXiv:1801.00868, section 4; annotations and
results in COCO's panoptic format (https://cocodataset.org/#panoptic-eval).
"""

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Quality", "id2rgb", "panoptic_quality", "rgb2id"]

_VOID = 0  # id of unlabelled pixels


class Quality(NamedTuple):
    """Qualities in [0, 1], averaged over the categories that occur."""

    pq: float
    sq: float
    rq: float
    categories: int


class _Counts:
    """Counts of one category: matched segments, the sum of their IoUs, unmatched segments."""

    def __init__(self) -> None:
        self.iou, self.hits, self.extra, self.missed = 0.0, 0, 0, 0

    def add(self, other: "_Counts") -> None:
        self.iou += other.iou
        self.hits += other.hits
        self.extra += other.extra
        self.missed += other.missed


def rgb2id(color: np.ndarray) -> np.ndarray:
    """Convert (H, W, 3) uint8 of a label image to (H, W) int64 segment ids."""
    return color.astype(np.int64) @ np.array([1, 256, 256**2])


def id2rgb(ids: np.ndarray) -> np.ndarray:
    """Convert (H, W) segment ids below 2^24 to (H, W, 3) uint8."""
    return (ids[..., None] >> np.array([0, 8, 16]) & 255).astype(np.uint8)


def panoptic_quality(
    pairs: Iterable[tuple[Any, Any]], read: Any, is_thing: dict[int, bool], workers: int = 4
) -> dict[str, Quality]:
    """Compute the panoptic quality of all categories ("All"), of "Things" and of "Stuff".

    Args:
        pairs: annotation and prediction of each image, dicts with "segments_info".
        read: maps such a pair to the (H, W) segment ids of both.
        is_thing: by category id, True for things.
        workers: number of threads.
    """
    counts: dict[int, _Counts] = {category: _Counts() for category in is_thing}
    with ThreadPoolExecutor(workers) as pool:
        for found in pool.map(lambda pair: _compare(*read(*pair), *pair), pairs):
            for category, count in found.items():
                counts[category].add(count)
    kinds = {"All": {True, False}, "Things": {True}, "Stuff": {False}}
    return {
        name: _average([counts[c] for c, thing in is_thing.items() if thing in kind])
        for name, kind in kinds.items()
    }


def _compare(
    truth_ids: np.ndarray, found_ids: np.ndarray, annotation: dict, prediction: dict
) -> dict[int, _Counts]:
    """Match the segments of an image; with an IoU above 1/2 the matching is unique."""
    truth = {segment["id"]: segment for segment in annotation["segments_info"]}
    found = {segment["id"]: segment["category_id"] for segment in prediction["segments_info"]}
    areas, overlaps = _areas(found_ids), _overlaps(truth_ids, found_ids)
    _check_segments(found, areas, prediction)
    truth_areas = _areas(truth_ids)
    counts: dict[int, _Counts] = defaultdict(_Counts)
    matched: set[tuple[str, int]] = set()
    for (truth_id, found_id), overlap in overlaps.items():
        segment = truth.get(truth_id)
        if segment is None or found_id not in found or segment.get("iscrowd") == 1:
            continue
        if segment["category_id"] != found[found_id]:
            continue
        # Unlabelled pixels of a prediction do not count as errors.
        void = overlaps.get((_VOID, found_id), 0)
        iou = overlap / (areas[found_id] + truth_areas[truth_id] - overlap - void)
        if iou > 0.5:
            matched |= {("truth", truth_id), ("found", found_id)}
            counts[found[found_id]].iou += iou
            counts[found[found_id]].hits += 1
    crowds = {s["category_id"]: i for i, s in truth.items() if s.get("iscrowd") == 1}
    for truth_id, segment in truth.items():
        if ("truth", truth_id) not in matched and segment.get("iscrowd") != 1:
            counts[segment["category_id"]].missed += 1
    for found_id, category in found.items():
        ignored = {_VOID, crowds.get(category, _VOID)}
        unknown = sum(overlaps.get((truth_id, found_id), 0) for truth_id in ignored)
        # Predictions that are mostly unlabelled or crowd are neither right nor wrong.
        if ("found", found_id) not in matched and unknown / areas[found_id] <= 0.5:
            counts[category].extra += 1
    return counts


def _areas(ids: np.ndarray) -> dict[int, int]:
    return dict(
        zip(*(values.tolist() for values in np.unique(ids, return_counts=True)), strict=True)
    )


def _overlaps(truth_ids: np.ndarray, found_ids: np.ndarray) -> dict[tuple[int, int], int]:
    """Count pixels by (annotated id, predicted id); ids are below 2^24."""
    pairs = _areas(truth_ids * 2**24 + found_ids)
    return {(pair >> 24, pair & (2**24 - 1)): pixels for pair, pixels in pairs.items()}


def _check_segments(found: dict[int, int], areas: dict[int, int], prediction: dict) -> None:
    differing = set(found) ^ (set(areas) - {_VOID})
    if differing:
        raise KeyError(
            f"Image {prediction['image_id']}: the segments {sorted(differing)} are in only one of "
            "the predicted image and its segments_info."
        )


def _average(counts: list[_Counts]) -> Quality:
    qualities = []
    for count in counts:
        weight = count.hits + 0.5 * count.extra + 0.5 * count.missed
        if weight:
            segmentation = count.iou / count.hits if count.hits else 0.0
            qualities.append((count.iou / weight, segmentation, count.hits / weight))
    if not qualities:
        return Quality(0.0, 0.0, 0.0, 0)
    pq, sq, rq = np.mean(qualities, axis=0).tolist()
    return Quality(pq, sq, rq, len(qualities))
