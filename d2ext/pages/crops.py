"""Crops around single objects, with marks drawn in."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from d2ext.visualization.drawing import Mark, draw

_SIDE = 240  # longer side of a crop's picture, in pixels
_LEAST = 32  # minimum side of a crop, in pixels of the image


def crop(image: np.ndarray, box: Sequence[float], marks: Sequence[Mark]) -> np.ndarray:
    """Crop an image to a box and its surroundings, twice the box's size, and draw marks.

    Args:
        image: (H, W, 3) RGB uint8.
        box: XYXY pixels.
        marks: in pixels of the image; those outside the crop are left out.
    """
    x0, y0, x1, y1 = _around(box, image.shape[1], image.shape[0])
    part = image[y0:y1, x0:x1]
    inside = [_moved(mark, x0, y0, x1, y1) for mark in marks if _touches(mark, x0, y0, x1, y1)]
    return draw(np.ascontiguousarray(part), inside, _SIDE / max(part.shape[:2]))


def whole(image: np.ndarray, marks: Sequence[Mark], side: int = 480) -> np.ndarray:
    """Draw marks on the whole image, scaled to a longer side of `side` pixels."""
    return draw(image, marks, side / max(image.shape[:2]))


def _around(box: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = np.nan_to_num(np.asarray(box, dtype=float), posinf=1e6, neginf=-1e6)
    half = max(2.0 * max(x1 - x0, y1 - y0), _LEAST) / 2
    middle_x, middle_y = np.clip((x0 + x1) / 2, 0, width), np.clip((y0 + y1) / 2, 0, height)
    left, top = max(0, int(middle_x - half)), max(0, int(middle_y - half))
    right, bottom = min(width, int(middle_x + half) + 1), min(height, int(middle_y + half) + 1)
    return min(left, width - 1), min(top, height - 1), max(right, left + 1), max(bottom, top + 1)


def _touches(mark: Mark, x0: int, y0: int, x1: int, y1: int) -> bool:
    return mark.box[0] < x1 and mark.box[2] > x0 and mark.box[1] < y1 and mark.box[3] > y0


def _moved(mark: Mark, x0: int, y0: int, x1: int, y1: int) -> Mark:
    left, top, right, bottom = mark.box
    mask = None if mark.mask is None else mark.mask[y0:y1, x0:x1]
    points = [(x - x0, y - y0) for x, y in mark.points]
    box = (left - x0, top - y0, right - x0, bottom - y0)
    return replace(mark, box=box, mask=mask, points=points)
