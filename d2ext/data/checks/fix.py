"""Fixes of issues: a copy of a split without what the check found, as far as it can be fixed."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from d2ext.data.formats import DatasetSplit, Item
from d2ext.data.formats.coco_geometry import mask_box
from d2ext.data.issues import Issue
from detectron2.structures import BoxMode

Fix = Callable[[Item, Item], Item | None]  # annotation and image -> annotation, None to drop it

_DROP_IMAGE = frozenset(
    (
        *("image-missing", "image-empty", "image-unreadable", "image-truncated", "image-huge"),
        *("image-size", "image-listed-twice", "duplicate-image", "leak-same"),
        *("labels-missing", "labels-size"),
    )
)


def fix_split(split: DatasetSplit, issues: Sequence[Issue], classes: Sequence[str]) -> DatasetSplit:
    """Build a fixed copy of a split, which stays as it is.

    Args:
        issues: of this split, by the check.
        classes: names of the copy; every class with objects is among them, save for outer spaces.
    """
    dropped = {i.image_index for i in issues if i.code in _DROP_IMAGE and i.object_index is None}
    codes: dict[int | None, list[str]] = defaultdict(list)
    for issue in issues:
        codes[issue.object_index].append(issue.code)
    index = _class_index(split, classes)
    images: list[Item] = []
    first = 0  # number of the image's first object
    for position, image in enumerate(split.images):
        count = len(image.get("annotations", ()))
        if position not in dropped:
            found = [codes.get(number, []) for number in range(first, first + count)]
            images.append({**_fix_image(image, found, index), "image_id": len(images) + 1})
        first += count
    names = split.classes if split.annotates_pixels else tuple(classes)
    return replace(split, images=images, classes=names, issues=[], id_issues=[])


def _fix_image(image: Item, codes: Sequence[Sequence[str]], index: Mapping[int, int]) -> Item:
    """Fix the objects of an image, given the codes of each object's issues."""
    if "annotations" not in image:
        return image
    fixed = [_fix(item, image, c) for item, c in zip(image["annotations"], codes, strict=True)]
    kept = [{**item, "category_id": index[item["category_id"]]} for item in fixed if item]
    return {**image, "annotations": kept}


def _class_index(split: DatasetSplit, classes: Sequence[str]) -> dict[int, int]:
    """Map class indices of the split to those of `classes`; classes without objects have none."""
    after = {name: number for number, name in enumerate(classes)}
    return {n: after[name.strip()] for n, name in enumerate(split.classes) if name.strip() in after}


def _fix(item: Item, image: Item, codes: Sequence[str]) -> Item | None:
    for code in codes:
        fix = _FIXES.get(code)
        found = fix(item, image) if fix else item
        if found is None:
            return None
        item = found
    return item


def _drop(item: Item, image: Item) -> None:
    return None


def _clip(item: Item, image: Item) -> Item:
    x, y, width, height = item["bbox"]
    low = max(0.0, x), max(0.0, y)
    high = min(image["width"], x + width), min(image["height"], y + height)
    return {**item, "bbox": [*low, high[0] - low[0], high[1] - low[1]]}


def _to_pixels(item: Item, image: Item) -> Item:
    sides = (image["width"], image["height"]) * 2
    scaled = [n * side for n, side in zip(item["bbox"], sides, strict=False)]
    return {**item, "bbox": [*scaled, *item["bbox"][4:]]}


def _from_corners(item: Item, image: Item) -> Item:
    x0, y0, x1, y1 = item["bbox"]
    return {**item, "bbox": [x0, y0, x1 - x0, y1 - y0]}


def _to_degrees(item: Item, image: Item) -> Item:
    return {**item, "bbox": [*item["bbox"][:4], math.degrees(item["bbox"][4])]}


def _box_of_mask(item: Item, image: Item) -> Item:
    if item["bbox_mode"] == BoxMode.XYWHA_ABS:
        return item
    return {**item, "bbox": mask_box(item["segmentation"])}


def _without_mask(item: Item, image: Item) -> Item:
    return {key: value for key, value in item.items() if key != "segmentation"}


def _without_keypoints(item: Item, image: Item) -> Item:
    return {key: value for key, value in item.items() if key != "keypoints"}


def _hide_outside(item: Item, image: Item) -> Item:
    points = np.array(item["keypoints"], dtype=np.float64).reshape(-1, 3)
    outside = (points[:, :2] < 0) | (points[:, :2] > (image["width"], image["height"]))
    points[outside.any(1), 2] = 0
    return {**item, "keypoints": points.ravel().tolist()}


_FIXES: dict[str, Fix] = {
    "box-beyond": _clip,
    "box-corners": _from_corners,
    "box-duplicate": _drop,
    "box-empty": _drop,
    "box-nonfinite": _drop,
    "box-normalised": _to_pixels,
    "box-outside": _drop,
    "box-radians": _to_degrees,
    "keypoint-count": _without_keypoints,
    "keypoint-outside": _hide_outside,
    "keypoint-value": _without_keypoints,
    "mask-box": _box_of_mask,
    "mask-empty": _drop,
    "mask-polygon": _without_mask,
    "mask-size": _drop,
}
