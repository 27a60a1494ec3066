"""Pairs of objects, as arrays in chunks of bounded size."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_CHUNK = 1 << 19  # pairs; some ten MB of coordinates


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


def pairs_by_image(owners: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Yield all pairs of objects in the same image: position of the later and the earlier one.

    Args:
        owners: (K,) image of each object, ascending.
    """
    first = np.searchsorted(owners, owners)  # first object of the same image
    yield from expand_ranges(first, np.arange(len(owners)) - first)


def split_by_image(numbers: Integers, owners: Integers) -> list[Integers]:
    """Split (K,) object numbers where the image, (K,) ascending, changes."""
    return np.split(numbers, np.flatnonzero(np.diff(owners)) + 1) if len(numbers) else []
