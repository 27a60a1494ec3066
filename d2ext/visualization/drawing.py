"""Boxes, masks and labels on an image: the one way every picture of d2ext draws them.

Detectron2's `Visualizer` goes through a matplotlib figure for each image and sizes its text by the
image's own pixels; at 160 pixels its labels cannot be read, and a grid takes seconds. Here the
image is scaled first and drawn on afterwards.
"""

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_mask

from d2ext.data.sources.corners import corners_of
from d2ext.visualization.fonts import font_file
from detectron2.structures import BoxMode, Instances

Color = tuple[int, int, int]

# Apart from each other in hue and lightness, and visible on photographs.
_PALETTE: tuple[Color, ...] = (
    (255, 99, 71),
    (46, 196, 182),
    (255, 200, 45),
    (92, 124, 250),
    (140, 217, 86),
    (240, 101, 190),
    (255, 146, 43),
    (77, 194, 255),
    (190, 120, 255),
    (0, 160, 100),
    (205, 92, 60),
    (200, 210, 120),
)
_MASK_OPACITY = 0.35
_CROWDED = 0.2  # share of a label that may lie on other labels and small boxes


class NamedClasses(Protocol):
    """What is read of a data set's metadata; a plain dictionary will do."""

    def get(self, key: str, default: Any = None, /) -> Any: ...


@dataclass(frozen=True)
class Mark:
    """One object to draw.

    Args:
        box: XYXY, in pixels of the image.
        color: RGB.
        text: the label.
        short: the label where `text` has no room; may be empty.
        score: labels of high scores are placed first.
        mask: (H, W) booleans of the image's size, or None.
        points: (x, y) of keypoints, in pixels of the image.
    """

    box: Sequence[float]
    color: Color
    text: str
    short: str = ""
    score: float = 1.0
    mask: np.ndarray | None = None
    points: Sequence[tuple[float, float]] = ()


def annotate(
    image: np.ndarray, instances: Instances, metadata: NamedClasses, scale: float = 1.0
) -> np.ndarray:
    """Draw what a model found.

    Args:
        image: (H, W, 3) RGB, uint8.
        instances: `pred_boxes`, `pred_classes`, `scores` and, where there, `pred_masks` and
            `pred_keypoints`, in pixels of `image`.
        metadata: `thing_classes` names and `thing_colors` colours the classes; both may be missing.
        scale: the size of the result, in sizes of `image`.

    Returns:
        (scale * H, scale * W, 3) RGB, uint8.
    """
    return draw(image, marks_of_instances(instances, metadata), scale)


def draw(image: np.ndarray, marks: Sequence[Mark], scale: float = 1.0) -> np.ndarray:
    """Draw `marks` on a scaled copy of an (H, W, 3) RGB uint8 image; see `annotate`."""
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    marks = sorted(marks, key=lambda mark: -mark.score)
    canvas = _resized(image, size)
    for mark in marks[::-1]:  # the best on top
        if mark.mask is not None:
            _tint(canvas, _resized(mark.mask.astype(np.uint8) * 255, size) > 127, mark.color)
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    boxes = np.array([_to_pixels(mark.box, scale, size) for mark in marks]).reshape(-1, 4)
    for box, mark in zip(boxes[::-1].tolist(), marks[::-1], strict=True):
        pen.rectangle(box, outline=mark.color, width=max(1, round(min(size) / 220)))
        radius = max(2, round(min(size) / 150))
        for x, y in scale * np.reshape(mark.points, (-1, 2)):
            disc = (x - radius, y - radius, x + radius, y + radius)
            pen.ellipse(disc, fill=mark.color, outline=ink_on(mark.color))
    _label(pen, size, boxes, marks)
    return np.asarray(picture)


def color_of(class_id: int, metadata: NamedClasses) -> Color:
    """RGB of a class: `thing_colors` of the data set, else one of a fixed sequence of hues."""
    given = metadata.get("thing_colors", None)
    if given is not None and class_id < len(given):
        red, green, blue = given[class_id]
        return int(red), int(green), int(blue)
    if class_id < len(_PALETTE):
        return _PALETTE[class_id]
    # The golden ratio spreads hues evenly, however many there are.
    hue, level = (0.618034 * class_id) % 1.0, class_id // len(_PALETTE) % 3
    rgb = colorsys.hsv_to_rgb(hue, (0.75, 0.5, 0.9)[level], (0.95, 1.0, 0.75)[level])
    return round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])


def class_name(class_id: int, metadata: NamedClasses) -> str:
    """The name of a class, or its number where the data set gives none."""
    names = metadata.get("thing_classes", None) or ()
    return str(names[class_id]) if class_id < len(names) else f"class {class_id}"


def marks_of_instances(instances: Instances, metadata: NamedClasses) -> list[Mark]:
    """What a model found: `pred_boxes`, `pred_classes`, `scores` and, where there, `pred_masks`
    (N, H, W) and `pred_keypoints` (N, K, 3)."""
    found = instances.to("cpu")
    masks: Sequence[np.ndarray | None] = (
        found.pred_masks.numpy() > 0.5 if found.has("pred_masks") else [None] * len(found)
    )
    boxes, classes = found.pred_boxes.tensor.tolist(), found.pred_classes.tolist()
    if found.pred_boxes.tensor.shape[1] == 5:
        upright = [_upright(box, BoxMode.XYWHA_ABS) for box in boxes]
        boxes = [box for box, _ in upright]
        masks = [_decode(outline, *found.image_size) for _, outline in upright]
    marks = [
        _found(*row, metadata)
        for row in zip(boxes, classes, found.scores.tolist(), masks, strict=True)
    ]
    if not found.has("pred_keypoints"):
        return marks
    points = found.pred_keypoints[:, :, :2].tolist()
    return [replace(mark, points=own) for mark, own in zip(marks, points, strict=True)]


def marks_of_results(
    results: Iterable[Mapping[str, Any]], metadata: NamedClasses, height: int, width: int
) -> list[Mark]:
    """What a model found in one image, as COCO's results format has it."""
    contiguous = metadata.get("thing_dataset_id_to_contiguous_id", None) or {}
    marks = []
    for item in results:
        class_id = contiguous.get(item["category_id"], item["category_id"])
        box, outline = _upright(item["bbox"], BoxMode.XYWH_ABS)
        mask = _decode(item.get("segmentation") or outline, height, width)
        found = _found(box, class_id, item["score"], mask, metadata)
        marks.append(replace(found, points=_seen(item.get("keypoints", ()), 0.5)))
    return marks


def marks_of_annotations(
    record: Mapping[str, Any], metadata: NamedClasses, masks: bool = True
) -> list[Mark]:
    """The ground truth of an image, in Detectron2's standard dictionary."""
    marks = []
    for item in record.get("annotations", ()):
        box, rotated = _upright(item["bbox"], item["bbox_mode"])
        class_id, mark = item["category_id"], " (crowd)" if item.get("iscrowd", 0) else ""
        text = class_name(class_id, metadata) + mark
        outline = rotated or (item.get("segmentation") if masks else None)
        mask = _decode(outline, record["height"], record["width"])
        points = _seen(item.get("keypoints", ()), 0.0)
        marks.append(Mark(box, color_of(class_id, metadata), text, mask=mask, points=points))
    return marks


def _seen(keypoints: Sequence[float], shift: float) -> list[tuple[float, float]]:
    """(x, y) of x, y, visibility one after another, without those that are not labelled."""
    triples = zip(*[iter(keypoints)] * 3, strict=True)
    return [(x + shift, y + shift) for x, y, visible in triples if visible]


def _upright(box: Sequence[float], mode: BoxMode) -> tuple[Any, list[list[float]] | None]:
    """XYXY of a box; of a rotated one that around it, and its corners as a polygon."""
    if len(box) == 5:
        corners = corners_of(box)
        xs, ys = corners[::2], corners[1::2]
        return (min(xs), min(ys), max(xs), max(ys)), [corners]
    return BoxMode.convert(tuple(box), mode, BoxMode.XYXY_ABS), None


def _found(
    box: Sequence[float],
    class_id: int,
    score: float,
    mask: np.ndarray | None,
    metadata: NamedClasses,
) -> Mark:
    short = f"{score:.2f}"
    text = f"{class_name(class_id, metadata)} {short}"
    return Mark(box, color_of(class_id, metadata), text, short, score, mask)


def _decode(segmentation: Any, height: int, width: int) -> np.ndarray | None:
    """Polygons or run lengths, compressed or not -> (H, W) booleans."""
    if not segmentation:
        return None
    if isinstance(segmentation, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        runs = coco_mask.frPyObjects(segmentation, height, width)
    else:
        runs = segmentation
    return coco_mask.decode(runs).astype(bool)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if size == (image.shape[1], image.shape[0]):
        return image.copy()
    shrinks = size[0] < image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _tint(canvas: np.ndarray, mask: np.ndarray, color: Color) -> None:
    canvas[mask] = (1 - _MASK_OPACITY) * canvas[mask] + _MASK_OPACITY * np.array(color)
    outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outline, -1, color, 1, cv2.LINE_AA)


def _to_pixels(box: Sequence[float], scale: float, size: tuple[int, int]) -> list[int]:
    """First and last pixel of a box in the scaled image; never outside it, never reversed."""
    x0, y0 = (min(max(round(v * scale), 0), s - 1) for v, s in zip(box[:2], size, strict=True))
    x1, y1 = (min(round(v * scale), s) - 1 for v, s in zip(box[2:], size, strict=True))
    return [x0, y0, max(x0, x1), max(y0, y1)]


def _label(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], boxes: np.ndarray, marks: Sequence[Mark]
) -> None:
    """Name and score where there is room, the score alone where there is less, else nothing.

    A label gives way to labels placed before it and to boxes that it would hide.
    """
    points = max(12, round(min(size) / 32))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    taken = np.zeros((0, 4))
    for box, mark in zip(boxes, marks, strict=True):
        for text in filter(None, (mark.text, mark.short)):
            font = ImageFont.truetype(font_file(text), points)
            width, height = pen.textlength(text, font=font) + 0.5 * points, 1.3 * points
            small = boxes[areas < 5 * width * height]
            spot = _free_spot(box, (width, height), size, np.concatenate((taken, small)))
            if spot is None:
                continue
            taken = np.concatenate((taken, spot[None]))
            pen.rectangle(tuple(spot), fill=mark.color)
            middle = (spot[0] + 0.25 * points, (spot[1] + spot[3]) / 2)
            pen.text(middle, text, fill=ink_on(mark.color), font=font, anchor="lm")
            break


def _free_spot(
    box: np.ndarray, label: tuple[float, float], size: tuple[int, int], avoid: np.ndarray
) -> np.ndarray | None:
    """Above the box, inside or below it: the first (4,) XYXY place that hides hardly anything."""
    width, height = label
    left = max(0.0, min(box[0], size[0] - width))
    right = max(0.0, min(box[2] - width, size[0] - width))
    rows = (box[1] - height, box[1], box[3] + 1, box[3] - height)
    for y in rows:
        for x in (left, right):
            spot = np.array((x, y, x + width, y + height))
            if y < 0 or y + height > size[1]:
                continue
            if _overlap(spot, avoid) <= _CROWDED * width * height:
                return spot
    return None


def _overlap(spot: np.ndarray, others: np.ndarray) -> float:
    """Area of `spot` that (N, 4) `others` lie on, added up."""
    low, high = np.maximum(spot[:2], others[:, :2]), np.minimum(spot[2:], others[:, 2:])
    return float((high - low).clip(0).prod(axis=1).sum())


def ink_on(color: Color) -> Color:
    """Black or white, whichever can be read on `color`."""
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0, 0, 0) if luminance > 110 else (255, 255, 255)
