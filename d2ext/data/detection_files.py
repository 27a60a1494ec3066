"""Files of detections in COCO's results format, validated when they are read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from d2ext.data.mask_validity import broken_run_lengths
from d2ext.files import broken_results, read_json

Item = dict[str, Any]

_LARGEST = 1e9  # pixels


def read_detections(path: Path, sizes: Mapping[Any, tuple[int, int]] | None = None) -> list[Item]:
    """Read `coco_instances_results.json`, as `COCOEvaluator` writes it.

    Args:
        sizes: (height, width) of each image in pixels, by its id; None: no image is known, so that
            any size is right.
    Returns:
        Dicts with "image_id", "category_id", "score", "bbox" of four or five finite numbers, and
        maybe "segmentation", run lengths that fill their image.
    Raises:
        OutputError: the file cannot be read, or an entry is something else.
    """
    found = read_json(path)
    if not isinstance(found, list):
        raise broken_results(path, "no list of detections")
    for number, item in enumerate(found):
        if problem := _problem(item, sizes):
            raise broken_results(path, f"entry {number}: {problem}")
    return found


def sizes_by_id(records: list[Item]) -> dict[Any, tuple[int, int]]:
    """Return (height, width) of Detectron2's dicts by the id of the image."""
    return {record["image_id"]: (record["height"], record["width"]) for record in records}


def _problem(item: Any, sizes: Mapping[Any, tuple[int, int]] | None) -> str:
    """Say what is wrong with a detection; "" for a valid one."""
    if not isinstance(item, dict):
        return "no object"
    image, category, box = (item.get(key) for key in ("image_id", "category_id", "bbox"))
    if not isinstance(image, (int, str)) or (sizes is not None and image not in sizes):
        return f"the data set has no image {image!r:.80}"
    if not isinstance(category, int):
        return f"the category {category!r:.80}"
    if not are_finite([item.get("score")]):
        return "a score that is no number"
    if not isinstance(box, list) or len(box) not in (4, 5) or not are_finite(box):
        return "a box that is not four or five numbers"
    mask = item.get("segmentation")
    return "" if mask is None else _mask_problem(mask, None if sizes is None else sizes[image])


def _mask_problem(mask: Any, size: tuple[int, int] | None) -> str:
    given = mask.get("size") if isinstance(mask, dict) else None
    if not isinstance(given, list) or len(given) != 2 or not all(type(n) is int for n in given):
        return "a mask that is no run lengths"
    if size is not None and tuple(given) != size:
        return f"a mask of {given[1]} x {given[0]} pixels in an image of {size[1]} x {size[0]}"
    return broken_run_lengths(mask, given[1], given[0])


def are_finite(values: list[Any], largest: float = _LARGEST) -> bool:
    """Return true for numbers that are finite and at most `largest`, which is in pixels."""
    # JSON's whole numbers may be larger than any float. NaN compares as false.
    return all(isinstance(n, (int, float)) and abs(n) <= largest for n in values)
