"""Pairs of detections and ground truth of one sample, and greedy matching, without loops over them.

Source: Caesar et al., "nuScenes", 2020, arXiv:1903.11027, section 3.1 (matching by distance).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from d2ext.projects.detr3d.data.geometry import Array

Index = NDArray[np.int64]
CHUNK = 2_000_000  # pairs that are held at a time


def pairs_per_sample(left: Index, right: Index) -> Iterator[tuple[Index, Index]]:
    """Yield chunks of the index pairs of elements that belong to one sample.

    Args:
        left: (N,) number of the sample of each element, in any order.
        right: (M,) the same, ascending.
    """
    starts = np.searchsorted(right, left, side="left")
    counts = np.searchsorted(right, left, side="right") - starts
    ends = np.cumsum(counts)
    first = 0
    while first < len(left):
        limit = CHUNK + (ends[first - 1] if first else 0)
        last = max(first + 1, int(np.searchsorted(ends, limit, side="right")))
        own = counts[first:last]
        rows = np.repeat(np.arange(first, last), own)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(own) - own, own)
        if len(rows):
            yield rows, starts[rows] + within
        first = last


def near_pairs(
    samples: Index, centres: Array, truth_samples: Index, truth_centres: Array, limit: float
) -> tuple[Index, Index, Array]:
    """Return the pairs of detection and ground truth nearer than a limit.

    Args:
        samples, truth_samples: (N,) in any order and (M,) ascending.
        centres, truth_centres: (N, 2) and (M, 2) metres.
        limit: of the distance in metres, excluded.
    Returns:
        Detections, ground truth and distances, sorted by detection, then by distance; equal
        distances by ground truth.
    """
    found: list[tuple[np.ndarray, ...]] = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for rows, columns in pairs_per_sample(samples, truth_samples):
        distance = np.linalg.norm(centres[rows] - truth_centres[columns], axis=1)
        near = distance < limit
        found.append((rows[near], columns[near], distance[near]))
    detection, truth, apart = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((truth, apart, detection))
    return detection[order], truth[order], apart[order]


def match_greedily(detection: Index, truth: Index) -> tuple[Index, Index]:
    """Let each detection in turn take its nearest ground truth that is still free.

    Each round settles all detections at once whose choice no earlier detection can still want, so
    that the result is that of one detection after another.

    Args:
        detection: (P,) ascending: the best one first.
        truth: (P,) the ground truth of each pair, the nearest one first within a detection.
    Returns:
        The matched detections, ascending, and their ground truth.
    """
    matched: list[tuple[Index, Index]] = [(np.zeros(0, int), np.zeros(0, int))]
    while len(detection):
        first = np.flatnonzero(np.r_[True, detection[1:] != detection[:-1]])
        wanted, earliest = np.unique(truth, return_index=True)
        claimed = earliest[np.searchsorted(wanted, truth[first])]
        settled = first[detection[claimed] == detection[first]]
        matched.append((detection[settled], truth[settled]))
        gone = np.isin(detection, detection[settled]) | np.isin(truth, truth[settled])
        detection, truth = detection[~gone], truth[~gone]
    detections, truths = (np.concatenate(parts) for parts in zip(*matched, strict=True))
    order = np.argsort(detections)
    return detections[order], truths[order]
