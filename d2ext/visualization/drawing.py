"""Draw boxes, masks, keypoints and labels on an image.

Detectron2's `Visualizer` renders each image through a matplotlib figure and sizes its text by the
image's own pixels; at 160 pixels the labels are unreadable, and a grid takes seconds. Here the
image is scaled first and drawn on afterwards.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from d2ext.text import class_name
from d2ext.visualization.fonts import font_file

Color = tuple[int, int, int]

# Far apart in hue and lightness, and visible on photographs.
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
    """The part of a data set's metadata that drawing reads; a plain dictionary will do."""

    def get(self, key: str, default: Any = None, /) -> Any: ...


@dataclass(frozen=True)
class Mark:
    """One object to draw.

    Args:
        box: XYXY, in pixels of the image.
        color: RGB.
        text: label.
        short: label where there is no room for `text`; may be empty.
        score: labels of higher scores are placed first.
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


def draw(image: np.ndarray, marks: Sequence[Mark], scale: float = 1.0) -> np.ndarray:
    """Draw `marks` on a copy of an (H, W, 3) RGB uint8 image, scaled by `scale`."""
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    marks = sorted(marks, key=lambda mark: -mark.score)
    canvas = _resized(image, size)
    for mark in marks[::-1]:  # the best last, on top of the others
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
    """Return the RGB colour of a class: `thing_colors` of the data set, else a fixed hue."""
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


def label_of(class_id: int, metadata: NamedClasses) -> str:
    """Return the name of a class of a data set, or "class N" where it has no names."""
    return class_name(class_id, metadata.get("thing_classes", None) or ())


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
    """Return the first and last pixel of a box in the scaled image, clipped and never reversed."""
    x0, y0 = (min(max(round(v * scale), 0), s - 1) for v, s in zip(box[:2], size, strict=True))
    x1, y1 = (min(round(v * scale), s) - 1 for v, s in zip(box[2:], size, strict=True))
    return [x0, y0, max(x0, x1), max(y0, y1)]


def _label(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], boxes: np.ndarray, marks: Sequence[Mark]
) -> None:
    """Draw name and score where there is room, the score where there is less, else nothing.

    A label must hide neither labels placed before it nor small boxes.
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
    """Return the first (4,) XYXY place around or in the box that hides hardly anything."""
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
    """Sum the areas that `spot` shares with each of the (N, 4) `others`."""
    low, high = np.maximum(spot[:2], others[:, :2]), np.minimum(spot[2:], others[:, 2:])
    return float((high - low).clip(0).prod(axis=1).sum())


def ink_on(color: Color) -> Color:
    """Return black or white, whichever is readable on `color`."""
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0, 0, 0) if luminance > 110 else (255, 255, 255)
