"""Pairs of objects, as arrays in chunks of bounded size."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_CHUNK = 1 << 19  # pairs; some ten MB of coordinates
_NEIGHBOURS = 1000  # objects that one is compared with at most
_FAR = 1e5  # pixels from the origin; objects further away are at that place
_ROUNDING = 1e-3  # pixels, of places in the last of a million images


def expand_ranges(first: Integers, counts: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Yield the pairs (n, first[n] + k) for all n and all k below counts[n], in chunks.

    Args:
        first: (N,) begin of each range.
        counts: (N,) length of each range.
    """
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.unique(np.searchsorted(ends, np.arange(_CHUNK, total, _CHUNK)))
    for rows in np.split(np.arange(len(first)), cuts):
        repeated = np.repeat(rows, counts[rows])
        begins = np.repeat(ends[rows] - counts[rows], counts[rows])
        before = ends[rows[0]] - counts[rows[0]] if len(rows) else 0
        yield repeated, first[repeated] + np.arange(before, before + len(repeated)) - begins


def pairs_by_left_side(
    left: Floats, reach: Floats, owners: Integers
) -> Iterator[tuple[Integers, Integers]]:
    """Yield the pairs of objects in one image whose left sides are near each other.

    Comparing all with all takes minutes for an image of 50,000 objects. In one that is crowded
    beyond any use, each object is paired with the `_NEIGHBOURS` next ones alone.

    Args:
        left: (K,) x of the left sides, in pixels.
        reach: (K,) how far right of each object's side the other one's may be, in pixels.
        owners: (K,) image of each object, ascending.
    Yields:
        Positions of the later and of the earlier one of each pair.
    """
    left = left.clip(-_FAR, _FAR)  # clipping brings sides nearer to each other, never apart
    order = np.lexsort((left, owners))
    places = 5 * _FAR * owners[order] + left[order]  # images follow each other without overlap
    ends = np.searchsorted(places, places + (reach[order] + _ROUNDING).clip(0, 2 * _FAR), "right")
    first = np.arange(1, len(order) + 1)
    for one, other in expand_ranges(first, np.minimum(ends - first, _NEIGHBOURS)):
        pair = order[one], order[other]
        yield np.maximum(*pair), np.minimum(*pair)


def split_by_image(numbers: Integers, owners: Integers) -> Iterator[Integers]:
    """Split (K,) object numbers where the image, (K,) ascending, changes."""
    if len(numbers):
        bounds = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(numbers)]
        yield from (numbers[start:end] for start, end in pairwise(bounds))
