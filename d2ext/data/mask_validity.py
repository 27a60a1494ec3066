"""Masks of run lengths that no model can learn from: of another size, broken, or without pixels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

MAX_PIXELS = 1 << 28  # of a mask: more are no annotation, and decoding them takes the memory


class BrokenMaskError(ValueError):
    """Run lengths that are no mask."""


def invalid_mask(mask: Any, width: int, height: int) -> tuple[str, str] | None:
    """Find what is wrong with a mask that a reader has made: polygons, or run lengths.

    No C code may see a mask before this or its reader's validation.

    Returns:
        As `invalid_run_lengths`.
    """
    if isinstance(mask, dict):
        return invalid_run_lengths(mask, width, height)
    if isinstance(mask, list) and not mask:
        return "mask-polygon", "no polygon"
    if isinstance(mask, list) and not all(is_near(polygon, width, height) for polygon in mask):
        return "mask-polygon", "a point far outside the image"
    return None


def is_near(polygon: Sequence[float], width: int, height: int) -> bool:
    """Return true if no coordinate is beyond twice the image's longer side, or NaN.

    Drawing a polygon takes as long as its outline has pixels.
    """
    limit = 2 * max(width, height)
    # min() and max() may pass over NaN; a sum does not.
    return max(polygon) <= limit and min(polygon) >= -limit and math.isfinite(sum(polygon))


def invalid_run_lengths(mask: dict[str, Any], width: int, height: int) -> tuple[str, str] | None:
    """Find what is wrong with a mask.

    Args:
        mask: compressed run lengths, as pycocotools makes them.
        width, height: of the image, in pixels.
    Returns:
        The code of the issue, "mask-size", "mask-polygon" or "mask-empty", and its detail; None
        for a valid mask.
    """
    if list(mask["size"]) != [height, width]:
        size = f"mask of {mask['size'][1]} x {mask['size'][0]} pixels"
        return "mask-size", f"{size}, image {width} x {height}"
    runs, problem = _checked_runs(mask, width, height)
    if problem:
        return "mask-polygon", problem
    return None if runs[1::2].any() else ("mask-empty", "no pixel")


def broken_run_lengths(mask: dict[str, Any], width: int, height: int) -> str:
    """Say why compressed run lengths are no mask of this size in pixels; "" if they are one."""
    return _checked_runs(mask, width, height)[1]


def _checked_runs(mask: dict[str, Any], width: int, height: int) -> tuple[NDArray[np.int64], str]:
    try:
        runs = _runs(_as_bytes(mask.get("counts")))
    except (TypeError, ValueError) as error:
        return np.empty(0, np.int64), f"broken run lengths: {error}"
    return runs, broken_runs(runs, width, height)


def decode_run_lengths(mask: dict[str, Any]) -> NDArray[np.uint8]:
    """Decode compressed run lengths, of any data set, to (H, W).

    Raises:
        BrokenMaskError: they do not fill a mask of their size.
    """
    try:
        height, width = map(int, mask["size"])
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenMaskError("run lengths without a size") from error
    if problem := broken_run_lengths(mask, width, height):
        raise BrokenMaskError(problem)
    return coco_mask.decode(mask)


def broken_runs(runs: NDArray[np.int64], width: int, height: int) -> str:
    """Say why runs, of background and object in turn, do not fill an image; "" if they do."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        return f"a mask of {width} x {height} pixels"
    pixels = width * height
    if (runs < 0).any() or (runs > pixels).any() or int(runs.sum()) != pixels:
        return f"broken run lengths: {int(runs.sum())} of {pixels} pixels"
    return ""


def _as_bytes(counts: Any) -> bytes:
    """Return the letters; TypeError or ValueError if they are none."""
    if not isinstance(counts, (str, bytes)):
        raise TypeError("neither a text nor a list")
    return counts.encode("ascii") if isinstance(counts, str) else counts


def _runs(text: bytes) -> NDArray[np.int64]:
    """Decode COCO's text of run lengths: five bits per letter, from the third on differences."""
    letters = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not len(letters) or (letters < 0).any() or (letters > 63).any() or letters[-1] & 32:
        raise ValueError("not COCO's letters")
    ends = np.flatnonzero(letters & 32 == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    places = np.arange(len(letters)) - np.repeat(starts, ends - starts + 1)
    if places.max() > 10:
        raise ValueError("a number of too many letters")
    values = np.add.reduceat((letters & 31) << (5 * places), starts)
    negative = letters[ends] & 16 > 0
    values -= np.where(negative, 1 << (5 * (places[ends] + 1)), 0)
    # A run is the difference to the one before the last, the first three aside.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
