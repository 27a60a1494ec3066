"""Masks of run lengths that no model can learn from: of another size, broken, or without pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    counts = mask["counts"]
    try:
        runs = _runs(counts.encode("ascii") if isinstance(counts, str) else counts)
    except (TypeError, ValueError) as error:
        return "mask-polygon", f"broken run lengths: {error}"
    if (runs < 0).any() or int(runs.sum()) != width * height:
        return "mask-polygon", f"broken run lengths: {int(runs.sum())} of {width * height} pixels"
    return None if runs[1::2].any() else ("mask-empty", "no pixel")


def _runs(text: bytes) -> NDArray[np.int64]:
    """Decode COCO's text of run lengths: five bits a letter, from the third on differences."""
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
