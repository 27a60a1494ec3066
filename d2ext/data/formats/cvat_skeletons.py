"""CVAT's skeletons: named points of an object, as keypoints in one order for all objects."""

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from d2ext.data.formats.dataset_split import Item
from d2ext.data.formats.keypoint_names import mirror_pairs
from d2ext.data.formats.outlines import box_object
from d2ext.data.formats.values import as_numbers, is_true

TAG = "skeleton"


def skeleton_metadata(root: ElementTree.Element) -> dict[str, Any]:
    """Return the names of the points and their mirror pairs; {} without skeletons.

    Points of several kinds of skeletons are all keypoints; an object has those of its own kind.
    """
    skeletons = list(root.iter(TAG))
    if not skeletons:
        return {}
    labels = root.iterfind(".//labels/label")  # of the task: its order holds for all files
    listed = [label.findtext("name", "") for label in labels if label.findtext("parent")]
    found = [point.get("label", "") for each in skeletons for point in each.iter("points")]
    names = list(dict.fromkeys(filter(None, [*listed, *found])))
    return {"keypoint_names": names, "keypoint_flip_map": mirror_pairs(names)}


def skeleton_object(element: ElementTree.Element, names: Sequence[str]) -> Item | None:
    """Return the keypoints of a skeleton and the box around them; None if no point is labelled.

    Args:
        names: of the keypoints, in their order. A point that is outside the image or not of this
            skeleton is not labelled (visibility 0), an occluded one has visibility 1.
    """
    points: dict[str, list[float]] = {}
    for point in element.iter("points"):
        place = as_numbers((point.get("points") or "").split(","))
        if place is not None and len(place) == 2 and not is_true(point.get("outside")):
            visibility = 1.0 if is_true(point.get("occluded")) else 2.0
            points[point.get("label", "")] = [*place, visibility]
    if not points.keys() & set(names):
        return None
    box = _box_around([(x, y) for x, y, _ in points.values()])
    keypoints = [number for name in names for number in points.get(name, [0.0, 0.0, 0.0])]
    return box | {"keypoints": keypoints}


def _box_around(points: Sequence[tuple[float, float]]) -> Item:
    """Return the box around points, of a pixel at least: few points may lie on a line."""
    sides = []
    for values in zip(*points, strict=True):
        low, high = min(values), max(values)
        sides.append((low, high) if high > low else (low - 0.5, low + 0.5))
    (x0, x1), (y0, y1) = sides
    return box_object([x0, y0, x1, y1])
