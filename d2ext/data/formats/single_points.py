"""Keypoints that files hold as single named points, each belonging to an object."""

import math
from collections.abc import Iterable, Sequence

from d2ext.data.formats.dataset_split import DatasetSplit, Item
from d2ext.data.formats.keypoint_names import mirror_pairs

_POINTS = "points"  # of an object, by name, until all names are known


def add_point(
    owners: Sequence[Item], by: str, name: str, place: Sequence[float], visibility: float = 2.0
) -> str:
    """Give a point to the object that it belongs to.

    Args:
        owners: the objects that it may belong to; there has to be one.
        by: what of the file tells them.
        name: of the keypoint.
        place: x and y in pixels.
        visibility: as COCO has it, 1 for an occluded point and 2 for a visible one.
    Returns:
        What is wrong with the point; "" if it was given to an object.
    """
    if len(place) != 2 or not all(map(math.isfinite, place)):
        return "point without a place"
    if not name:
        return "point without a label"
    if len(owners) != 1:
        return f"point that belongs to {'several objects' if owners else 'no object'} by its {by}"
    points = owners[0].setdefault(_POINTS, {})
    if name in points:
        return "second point of that name in an object"
    points[name] = [*place, visibility]
    return ""


def point_names(datasets: Iterable[DatasetSplit]) -> list[str]:
    """Return the names of the points of all objects, in the order in which they come."""
    items = (item for each in datasets for image in each.images for item in image["annotations"])
    return list(dict.fromkeys(name for item in items for name in item.get(_POINTS, ())))


def turn_into_keypoints(dataset: DatasetSplit, names: Sequence[str]) -> None:
    """Turn the points of objects into keypoints in the order of `names`, in place.

    A point that an object lacks has visibility 0. Objects without any point keep no keypoints.
    """
    for image in dataset.images:
        for item in image["annotations"]:
            if points := item.pop(_POINTS, None):
                item["keypoints"] = [n for name in names for n in points.get(name, [0.0] * 3)]
    if names:
        pairs = mirror_pairs(names)
        dataset.metadata |= {"keypoint_names": list(names), "keypoint_flip_map": pairs}
