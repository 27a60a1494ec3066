"""Four corners to a rotated box."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

_SLACK = 0.02  # by which the diagonals of a rectangle may differ, as a share of their length


def rotated_box(corners: Sequence[float]) -> list[float]:
    """Return the XYWHA box of x1 y1 ... x4 y4, or the smallest one around what is no rectangle.

    The width runs from the first corner to the second; the angle is in degrees, counter-clockwise
    as seen, from -180 on and below 180. The corners may go round either way. There may be more
    points, or three.
    """
    points = np.asarray(corners, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        return [math.nan] * 5
    if not _is_rectangle(points):
        (cx, cy), (w, h), clockwise = cv2.minAreaRect(points.astype(np.float32))
        return [float(cx), float(cy), float(w), float(h), _turned(-clockwise)]
    along, across = points[1] - points[0], points[2] - points[1]
    cx, cy = points.mean(0).tolist()
    width, height = math.hypot(*along), math.hypot(*across)
    angle = math.degrees(math.atan2(-along[1], along[0]))
    return [cx, cy, width, height, _turned(angle)]


def _is_rectangle(points: NDArray[np.float64]) -> bool:
    """Return true if (N, 2) points are four whose diagonals are alike."""
    if len(points) != 4:
        return False
    middles = (points[0] + points[2]) / 2, (points[1] + points[3]) / 2
    lengths = [math.dist(points[n], points[n + 2]) for n in (0, 1)]
    slack = max(1.0, _SLACK * max(lengths))
    return math.dist(*middles) <= slack and abs(lengths[0] - lengths[1]) <= slack


def corners_of(box: Sequence[float]) -> list[float]:
    """Return x1 y1 ... x4 y4 of an XYWHA box, clockwise as seen, from its unrotated top left.

    They are NaN for an angle that is not finite.
    """
    cx, cy, width, height, angle = box
    if not math.isfinite(angle):
        return [math.nan] * 8
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    found: list[float] = []
    for x, y in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)):
        dx, dy = x * width, y * height
        found += [cx + c * dx + s * dy, cy - s * dx + c * dy]
    return found


def long_side_first(box: Sequence[float]) -> list[float]:
    """Rewrite an XYWHA box so that its width is the long side and its angle in [-45, 135).

    Upright and lying boxes, the most frequent ones, are far from where the angle jumps.
    """
    cx, cy, width, height, angle = box
    if width < height:
        width, height, angle = height, width, angle + 90
    return [cx, cy, width, height, (angle + 45) % 180 - 45]


def _turned(angle: float) -> float:
    return (angle + 180) % 360 - 180
