"""Regions of Label Studio's tasks: rectangles, ellipses, polygons and brushes as objects."""

import math
from typing import Any

from d2ext.data.formats.dataset_split import Item
from d2ext.data.formats.label_studio_runs import decode_runs
from d2ext.data.formats.outlines import (
    box_object,
    ellipse,
    mask_object,
    polygon_object,
    rotated_object,
)
from d2ext.data.formats.values import as_numbers

KINDS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "keypointlabels")


def region_values(region: Any) -> tuple[str, Item]:
    """Return the type of a region and its values, which JSON-MIN has in the region itself."""
    if not isinstance(region, dict):
        return "unknown", {}
    value = region["value"] if isinstance(region.get("value"), dict) else region
    kind = str(region.get("type") or next((key for key in KINDS if key in value), "unknown"))
    return kind, value


def region_object(kind: str, value: Item, region: Item, size: tuple[int, int]) -> Item | None:
    """Return the box and mask of a region; None for values that cannot be read.

    Args:
        kind, value: as `region_values` returns them.
        size: width and height of the image, in pixels.
    """
    shape = kind.removesuffix("labels") if kind != "labels" else _shape_of(value)
    width, height = size
    turn = (as_numbers([value.get("rotation") or 0]) or [0.0])[0]
    if not math.isfinite(turn):
        return None
    if shape == "rectangle":
        found = as_numbers([value.get(key) for key in ("x", "y", "width", "height")])
        return None if found is None else _rectangle(_pixels(found, width, height), turn)
    if shape == "ellipse":
        keys = ("x", "y", "radiusX", "radiusY")
        found = as_numbers([value.get(key) for key in keys])
        if found is None:
            return None
        cx, cy, rx, ry = _pixels(found, width, height)
        return polygon_object(ellipse(cx, cy, rx, ry, turn))
    if shape == "polygon":
        try:
            points = as_numbers([n for point in value.get("points") or () for n in point])
        except TypeError:  # no lists
            return None
        if points is None or len(points) < 6:
            return None
        return polygon_object(_pixels(points, width, height))
    return _brush(value, region, size) if shape == "brush" else None


def _shape_of(value: Item) -> str:
    if "points" in value:
        return "polygon"
    return "ellipse" if "radiusX" in value else "brush" if "rle" in value else "rectangle"


def _pixels(shares: list[float], width: int, height: int) -> list[float]:
    return [n * (width, height)[i % 2] / 100 for i, n in enumerate(shares)]


def _rectangle(box: list[float], turn: float) -> Item:
    x, y, width, height = box
    if not turn % 360:
        return box_object([x, y, x + width, y + height])
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    cx = x + cos * width / 2 - sin * height / 2
    cy = y + sin * width / 2 + cos * height / 2
    return rotated_object([cx, cy, width, height, (180 - turn) % 360 - 180])


def _brush(value: Item, region: Item, size: tuple[int, int]) -> Item | None:
    """Decode the mask of a brush, the alpha of an RGBA image in Label Studio's run lengths."""
    runs = value.get("rle")
    sides = [region.get(key, value.get(key)) for key in ("original_width", "original_height")]
    if sides != list(size) or not isinstance(runs, list):
        return None
    try:
        values = decode_runs(bytes(runs))
    except (ValueError, TypeError, IndexError):
        return None
    if len(values) != 4 * size[0] * size[1]:
        return None
    return mask_object(values.reshape(size[1], size[0], 4)[..., 3] > 0, 0, 0, size)
