"""A source without its faults, as far as they can be mended."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from d2ext.data.checks.report import Fault
from d2ext.data.formats import DatasetSplit, Item
from detectron2.structures import BoxMode

Mend = Callable[[Item, Item], Item | None]  # an annotation and its image -> annotation or nothing

_IMAGES_OUT = frozenset(
    [
        "image-missing",
        "image-empty",
        "image-unreadable",
        "image-truncated",
        "image-huge",
        "image-size",
        "leak-same",
        "duplicate-image",
        "image-listed-twice",
        "labels-missing",
        "labels-size",
    ]
)


def mended(source: DatasetSplit, faults: Sequence[Fault], classes: Sequence[str]) -> DatasetSplit:
    """A copy of `source`, which stays as it is.

    Args:
        faults: of this source, by the check.
        classes: names of the copy; every class with objects is among them, save for outer spaces.
    """
    out = {f.image_index for f in faults if f.code in _IMAGES_OUT and f.object_index is None}
    by_object: dict[int, list[str]] = defaultdict(list)
    for fault in faults:
        if fault.object_index is not None:
            by_object[fault.object_index].append(fault.code)
    index = _index(source, classes)
    images: list[Item] = []
    number = 0
    for position, image in enumerate(source.images):
        items = image.get("annotations")
        codes = [by_object[number + n] for n in range(len(items or ()))]
        number += len(codes)
        if position in out:
            continue
        image = {**image, "image_id": len(images) + 1}
        if items is not None:
            kept = (_mend(item, image, c) for item, c in zip(items, codes, strict=True))
            image["annotations"] = [
                {**item, "category_id": index[item["category_id"]]} for item in kept if item
            ]
        images.append(image)
    names = source.classes if source.task in ("semantic", "panoptic") else tuple(classes)
    return replace(source, images=images, classes=names, faults=[])


def _index(source: DatasetSplit, classes: Sequence[str]) -> dict[int, int]:
    """Class index before -> after; classes without objects have none."""
    after = {name: number for number, name in enumerate(classes)}
    return {
        n: after[name.strip()] for n, name in enumerate(source.classes) if name.strip() in after
    }


def _mend(item: Item, image: Item, codes: Sequence[str]) -> Item | None:
    for code in codes:
        mend = _MENDS.get(code)
        found = mend(item, image) if mend else item
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


def mask_box(segmentation: Any) -> list[float]:
    """XYWH of polygons or run lengths."""
    if isinstance(segmentation, dict):
        return [float(n) for n in coco_mask.toBbox(segmentation).tolist()]
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in segmentation])
    low, high = points.min(0), points.max(0)
    return [*low.tolist(), *(high - low).tolist()]


_MENDS: dict[str, Mend] = {
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
