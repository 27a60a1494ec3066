"""Objects of outlines: polygons, ellipses and masks of pixels, with the boxes around them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from d2ext.data.formats.corners import corners_of, rotated_box
from d2ext.data.formats.dataset_split import Item, Task
from d2ext.data.mask_validity import MAX_PIXELS
from detectron2.structures import BoxMode

_CORNERS = 32  # of the polygon that stands for an ellipse


def box_object(points: Sequence[float]) -> Item:
    """Return the upright box around x, y, x, y, ... in pixels."""
    xs, ys = points[::2], points[1::2]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS}


def polygon_object(points: Sequence[float]) -> Item:
    """Return an object with one polygon x, y, x, y, ... in pixels."""
    return box_object(points) | {"segmentation": [list(points)]}


def rotated_object(box: Sequence[float]) -> Item:
    """Return an object with a box of centre, size and angle; upright if the angle is 0."""
    cx, cy, width, height, angle = box
    if angle % 360:
        return {"bbox": list(box), "bbox_mode": BoxMode.XYWHA_ABS}
    upright = [cx - width / 2, cy - height / 2, width, height]
    return {"bbox": upright, "bbox_mode": BoxMode.XYWH_ABS}


def ellipse(cx: float, cy: float, rx: float, ry: float, clockwise: float = 0.0) -> list[float]:
    """Return the polygon x, y, x, y, ... of an ellipse, turned by degrees clockwise as seen.

    It is NaN for an angle that is not finite.
    """
    if not math.isfinite(clockwise):
        return [math.nan] * 2 * _CORNERS
    cos, sin = math.cos(math.radians(clockwise)), math.sin(math.radians(clockwise))
    points: list[float] = []
    for number in range(_CORNERS):
        angle = 2 * math.pi * number / _CORNERS
        x, y = rx * math.cos(angle), ry * math.sin(angle)
        points += [cx + cos * x - sin * y, cy + sin * x + cos * y]
    return points


def mask_object(mask: NDArray[np.bool_], left: int, top: int, size: tuple[int, int]) -> Item | None:
    """Return an object with run lengths; None without pixels or with too many.

    Args:
        mask: (h, w), the part of the image that the object is in.
        left, top: where the part begins, in pixels.
        size: width and height of the image.
    """
    if size[0] * size[1] > MAX_PIXELS:
        return None
    whole = np.zeros((size[1], size[0]), np.uint8, order="F")
    part = mask[max(0, -top) :, max(0, -left) :]
    into = whole[max(0, top) :, max(0, left) :]
    height, width = min(part.shape[0], into.shape[0]), min(part.shape[1], into.shape[1])
    into[:height, :width] = part[:height, :width]
    runs = coco_mask.encode(whole)
    if not whole.any():
        return None
    box = [float(n) for n in coco_mask.toBbox(runs).tolist()]
    return {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "segmentation": runs}


def give_angles(items: Sequence[Item]) -> None:
    """Give every upright box an angle, in place: 0, or that of the smallest box around polygons."""
    for item in items:
        polygons = item.pop("segmentation", None)
        if isinstance(polygons, list) and polygons:
            points = [number for polygon in polygons for number in polygon]
            item["bbox"], item["bbox_mode"] = rotated_box(points), BoxMode.XYWHA_ABS
        elif item["bbox_mode"] == BoxMode.XYWH_ABS:
            x, y, w, h = item["bbox"]
            item["bbox"], item["bbox_mode"] = [x + w / 2, y + h / 2, w, h, 0.0], BoxMode.XYWHA_ABS


def turn_into_polygons(items: Sequence[Item]) -> None:
    """Replace every box with an angle by the polygon of its corners, in place."""
    for item in items:
        if item["bbox_mode"] == BoxMode.XYWHA_ABS:
            item |= polygon_object(corners_of(item["bbox"]))


def settle_task(items: Sequence[Item], points: bool) -> Task:
    """Make all boxes of one kind, in place: with an angle if one has one, polygons among masks.

    Args:
        points: objects of the data set have keypoints.
    """
    if points or any("segmentation" in item for item in items):
        turn_into_polygons(items)
        return "keypoints" if points else "masks"
    if any(len(item["bbox"]) == 5 for item in items):
        give_angles(items)
        return "rotated"
    return "boxes"
