"""Masks: polygons and run lengths, beside their boxes, images and each other."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import shapely
from pycocotools import mask as coco_mask

from d2ext.data.checks.subject import Floats, Integers, Subject

_SLACK = 1.0  # pixels that a polygon may reach beyond its image
_FIT = 2.0  # pixels that a box and its mask may differ by, or
_SHARE = 0.1  # this share of the box's side
_MOST_PIXELS = 1 << 30  # in larger images run lengths would overflow
_EXCEPTION = 0.01  # share of objects with shared pixels, up to which sharing is a slip


def check_masks(subject: Subject) -> None:
    """Look at each mask, then at those of one image together."""
    masked = np.array([bool(item.get("segmentation")) for item in subject.objects], dtype=bool)
    if not masked.any():
        return
    for number in np.flatnonzero(~masked & ~subject.crowd):
        subject.add_object("mask-missing", int(number), "a box without a mask")
    good = [int(n) for n in np.flatnonzero(masked & subject.usable) if _check(subject, int(n))]
    _find_overlaps(subject, np.array(good, dtype=np.int64))


def _check(subject: Subject, number: int) -> bool:
    """Tell what is wrong with one mask; whether it can be compared with others."""
    segmentation = subject.objects[number]["segmentation"]
    if isinstance(segmentation, dict):
        return _check_run_lengths(subject, number, segmentation)
    _check_polygons(subject, number, [np.reshape(p, (-1, 2)) for p in segmentation])
    return True


def _check_run_lengths(subject: Subject, number: int, mask: dict[str, Any]) -> bool:
    width, height = np.nan_to_num(subject.frames[number]).astype(int).tolist()
    if list(mask["size"]) != [height, width]:
        detail = f"mask of {mask['size'][1]} x {mask['size'][0]} pixels, image {width} x {height}"
        subject.add_object("mask-size", number, detail)
        return False
    try:
        area = int(coco_mask.area(mask))
        x, y, w, h = coco_mask.toBbox(mask).tolist()
        pixels = coco_mask.decode(mask)
    except (TypeError, ValueError) as error:
        subject.add_object("mask-polygon", number, f"broken run lengths: {error}")
        return False
    if area == 0:
        subject.add_object("mask-empty", number, "no pixel")
        return False
    _compare_with_box(subject, number, np.array([x, y, x + w, y + h]))
    if not subject.crowd[number]:
        inside = np.ascontiguousarray(pixels[int(y) : int(y + h), int(x) : int(x + w)])
        parts = cv2.connectedComponents(inside, connectivity=4)[0] - 1
        _tell_parts(subject, number, parts)
    return True


def _check_polygons(subject: Subject, number: int, polygons: Sequence[Floats]) -> None:
    points = np.concatenate(polygons)
    low, high = points.min(0), points.max(0)
    _compare_with_box(subject, number, np.concatenate((low, high)))
    beyond = float(np.maximum(-low, high - subject.frames[number]).max())
    if beyond > _SLACK:
        subject.add_object("mask-outside", number, f"by {beyond:.1f} pixels")
    _tell_parts(subject, number, len(polygons))
    crossing = sum(not shapely.Polygon(p).is_valid for p in polygons if len(p) > 3)
    if crossing:
        subject.add_object("mask-crossing", number, f"{crossing} of {len(polygons)} polygons")


def _tell_parts(subject: Subject, number: int, parts: int) -> None:
    if parts > 1:
        subject.add_object("mask-parts", number, f"{parts} parts")


def _compare_with_box(subject: Subject, number: int, mask_box: Floats) -> None:
    """Compare with the box, (4,) XYXY each; both are clipped, since many tools clip one of them."""
    frame = np.tile(subject.frames[number], 2)
    box, mask_box = subject.boxes[number].clip(0, frame), mask_box.clip(0, frame)
    side = np.tile(box[2:] - box[:2], 2)
    away = np.abs(box - mask_box)
    if (away > np.maximum(_FIT, _SHARE * side)).any():
        shown = ", ".join(
            f"{value:.6g}" for value in (*mask_box[:2], *(mask_box[2:] - mask_box[:2]))
        )
        detail = f"box {subject.shown_box(number)}, mask in [{shown}]"
        subject.add_object("mask-box", number, detail)


def _find_overlaps(subject: Subject, numbers: Integers) -> None:
    """Tell of masks that share pixels, unless that is common."""
    numbers = numbers[~subject.crowd[numbers]]
    found: list[tuple[int, int, int]] = []
    starts = np.flatnonzero(np.diff(subject.owners[numbers], prepend=-1))
    for group in np.split(numbers, starts[1:]):
        found += _shared_pixels(subject, group)
        if len(found) > _EXCEPTION * len(subject.objects) + 1:
            return
    for one, other, pixels in found:
        detail = f"{pixels} pixels shared with {subject.place(one)}"
        subject.add_object("mask-overlap", other, detail)


def _shared_pixels(subject: Subject, group: Integers) -> list[tuple[int, int, int]]:
    width, height = subject.frames[group[0]].tolist() if len(group) else (0.0, 0.0)
    if len(group) < 2 or width * height > _MOST_PIXELS:
        return []
    width, height = int(width), int(height)
    masks = [_run_lengths(subject.objects[n]["segmentation"], height, width) for n in group]
    ious = np.triu(coco_mask.iou(masks, masks, [0] * len(masks)), 1)
    return [
        (
            int(group[a]),
            int(group[b]),
            int(coco_mask.area(coco_mask.merge([masks[a], masks[b]], 1))),
        )
        for a, b in zip(*np.nonzero(ious > 0), strict=True)
    ]


def _run_lengths(segmentation: Any, height: int, width: int) -> Any:
    if isinstance(segmentation, dict):
        return segmentation
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
