"""Boxes and masks of COCO's annotations: parsed, or None where they cannot be used."""

import math
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from d2ext.data.formats.dataset_split import Item
from d2ext.data.formats.values import as_numbers, number_words
from d2ext.data.mask_validity import broken_run_lengths, broken_runs, is_near


def are_near_polygons(values: Any, width: int, height: int) -> bool:
    """Return true for a list of polygons that need neither parsing nor cleaning.

    Args:
        width, height: of the image, in pixels; see `d2ext.data.mask_validity.is_near`.
    """
    if not isinstance(values, list):
        return False
    try:
        for value in values:
            if not isinstance(value, list) or len(value) < 6 or len(value) % 2:
                return False
            if not is_near(value, width, height):
                return False
    except (TypeError, OverflowError):  # not all of them are numbers
        return False
    return True


def parse_segmentation(value: Any, image: Item) -> Any:
    """Validate polygons and lists of run lengths, which the C code of pycocotools does not.

    Returns:
        The polygons of three points or more, whose coordinates are at most twice the image's longer
        side, or compressed run lengths; None if nothing of it is valid. A text of run lengths may
        still be broken: see `d2ext.data.mask_validity.invalid_mask`.
    """
    if isinstance(value, dict):
        return _run_lengths(value)
    if isinstance(value, list):
        polygons = [polygon if _is_polygon(polygon) else _parsed(polygon) for polygon in value]
        size = image["width"], image["height"]
        return [p for p in polygons if p is not None and is_near(p, *size)] or None
    return None


def _parsed(value: Any) -> list[float] | None:
    """Parse a polygon that is written as text, as points or in a pair of brackets too many.

    Points are [[x, y], ...] or [{"x": x, "y": y}, ...].
    """
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if isinstance(value, list) and value and all(map(is_named_point, value)):
        value = [[point["x"], point["y"]] for point in value]
    if isinstance(value, list) and value and all(isinstance(n, (list, tuple)) for n in value):
        value = [n for point in value for n in point] if all(len(n) == 2 for n in value) else None
    found = as_numbers(value) if isinstance(value, (list, str)) else None
    return found if found is not None and _is_polygon(found) else None


def is_named_point(value: Any) -> bool:
    """Return true for {"x": ..., "y": ...}."""
    return isinstance(value, dict) and {"x", "y"} <= value.keys()


def _are_numbers(values: list[Any]) -> bool:
    try:
        math.hypot(*values)  # in C: several times faster than a look at each
    except (TypeError, OverflowError):
        return False
    return True


def _is_polygon(value: Any) -> bool:
    if not isinstance(value, list) or len(value) < 6 or len(value) % 2:
        return False
    try:
        if math.isfinite(sum(value)):  # in C: numbers alone, and all of them finite
            return True
    except (TypeError, OverflowError):
        return False
    return all(math.isfinite(n) for n in value)  # the sum of large numbers may not be finite


def _run_lengths(value: Item) -> Item | None:
    size, counts = as_numbers(value.get("size")), value.get("counts")
    if isinstance(counts, str) and counts.startswith("b'"):  # Python's text for bytes
        counts = counts[2:].removesuffix("'").replace("\\\\", "\\")
    try:
        height, width = map(int, size)  # type: ignore[arg-type] # a TypeError is as good
        if isinstance(counts, list):
            runs = [int(count) for count in counts]
            if broken_runs(np.array(runs, dtype=np.int64), width, height):
                return None
            return coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    except (TypeError, ValueError, OverflowError):
        return None
    # Checked by `invalid_mask`, which cleaning and the check call: they say what is wrong with it.
    is_text = isinstance(counts, (str, bytes))
    return {"size": [height, width], "counts": counts} if is_text else None


def parse_box(value: Any, segmentation: Any) -> list[float] | None:
    """Return four or five numbers; the box of the mask where there are none."""
    if isinstance(value, dict):
        value = [value.get(key) for key in ("x", "y", "width", "height")]
    if isinstance(value, list) and 4 <= len(value) <= 5:
        return value if _are_numbers(value) else as_numbers(value)
    if isinstance(value, str) and value:
        found = as_numbers(value)
        if found is None or len(found) > 5:  # decimal commas
            found = as_numbers(number_words(value.strip("[]() ")))
        return found if found is not None and 4 <= len(found) <= 5 else None
    if value not in (None, [], "") or segmentation is None:
        return None
    return mask_box(segmentation)


def mask_box(segmentation: Any) -> list[float] | None:
    """Compute the XYWH box, in pixels, of polygons or run lengths; None for broken ones."""
    if isinstance(segmentation, dict):
        height, width = segmentation["size"]
        if broken_run_lengths(segmentation, width, height):
            return None
        return [float(n) for n in coco_mask.toBbox(segmentation).tolist()]
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in segmentation])
    low, high = points.min(0), points.max(0)
    return [*low.tolist(), *(high - low).tolist()]
