"""COCO's run lengths and polygons, validated before the C code of pycocotools draws them.

That code trusts its input: runs that do not fill the mask, a size of 0 or coordinates of 1e9 end in
a crash, an endless loop, or memory that was never written.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

__all__ = ["FARTHEST", "check_polygons", "check_run_lengths", "decode_run_lengths"]

_MAX_PIXELS = 1 << 28  # of a mask
FARTHEST = 1 << 22  # pixels from the origin: drawing takes time and memory for each of them
_LETTERS = 11  # of one number: more have over 64 bits


def check_run_lengths(rle: Any) -> dict[str, Any]:
    """Validate a mask of run lengths and return it compressed.

    Args:
        rle: "size", height and width in pixels, and "counts": COCO's text, or a list of runs.

    Raises:
        ValueError: the size is none, or the runs do not fill it.
    """
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        runs = np.array(counts, np.int64) if isinstance(counts, list) else _parse_counts(counts)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"broken run lengths: {error}") from error
    if not (height > 0 and width > 0 and height * width <= _MAX_PIXELS):
        raise ValueError(f"broken run lengths: a mask of {width} x {height} pixels")
    pixels = height * width
    if runs.ndim != 1 or (runs < 0).any() or (runs > pixels).any() or runs.sum() != pixels:
        raise ValueError(f"broken run lengths: they do not fill a mask of {width} x {height}")
    if isinstance(counts, list):
        plain = {"size": [height, width], "counts": runs.tolist()}
        return mask_util.frPyObjects(plain, height, width)
    return rle


def decode_run_lengths(rle: Any) -> np.ndarray:
    """Decode a mask of run lengths to (H, W) uint8.

    Raises:
        ValueError: see `check_run_lengths`.
    """
    return mask_util.decode(check_run_lengths(rle))


def check_polygons(polygons: Sequence[Any], least: int = 6) -> None:
    """Check that flat polygons [x0, y0, ...] in pixels can be drawn.

    Args:
        polygons: of one object.
        least: the fewest numbers that one may have.

    Raises:
        ValueError: a polygon has fewer numbers, or a point that is not finite or millions of pixels
            away.
    """
    for polygon in polygons:
        try:
            points = np.asarray(polygon, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"a polygon is a list of numbers: {error}") from error
        if points.ndim != 1 or len(points) < least or len(points) % 2:
            raise ValueError(f"a polygon has x and y of three points or more, got {polygon}")
        if not np.abs(points).max(initial=0) <= FARTHEST:  # NaN compares as false
            raise ValueError("a polygon has a point that is not finite or far outside any image")


def _parse_counts(counts: str | bytes) -> np.ndarray:
    """Parse COCO's text: numbers of 5 bits per letter, from the fourth on differences."""
    text = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
    letters = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not len(letters) or letters.min() < 0 or letters.max() > 63 or letters[-1] & 32:
        raise ValueError("not COCO's letters")
    last = np.flatnonzero((letters & 32) == 0)
    first = np.append(0, last[:-1] + 1)
    sizes = last - first + 1
    if sizes.max() > _LETTERS:
        raise ValueError(f"a number of {sizes.max()} letters")
    shifts = 5 * (np.arange(len(letters)) - np.repeat(first, sizes))
    runs = np.add.reduceat((letters & 31) << shifts, first)
    runs -= np.where(letters[last] & 16, np.int64(1) << (5 * sizes), 0)
    # The first three numbers are runs, each other one is added to the run two before.
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return runs
