"""Outlines of shapes in whole numbers: placed, measured and filled, the same bits on every machine.

Corners are in 1/16 pixel; a pixel belongs to a shape when its centre does.
"""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]  # (H, W)
Points = NDArray[np.int64]  # (N, 2) XY in 1/16 pixel

SUB = 16  # units in a pixel
_ONE = 4096  # unit of the sine table and of the outlines
TURN = 256  # entries of the sine table
_ANGLES = 2 * np.pi * np.arange(TURN) / TURN
_COS = np.rint(_ONE * np.cos(_ANGLES)).astype(np.int64)
_SIN = np.rint(_ONE * np.sin(_ANGLES)).astype(np.int64)


def _polar(*radii: int, corners: int) -> Points:
    """Return `corners` points around the origin, at `radii` in turn; in _ONE."""
    at = np.arange(corners) * TURN // corners
    radius = np.resize(np.array(radii, dtype=np.int64), corners)
    return np.stack([_COS[at] * radius, _SIN[at] * radius], axis=1) // _ONE


def _cross() -> Points:
    arm, end = 1300, 3880
    quarter = [(end, -arm), (end, arm), (arm, arm)]
    turns = [quarter]
    for _ in range(3):
        turns.append([(-y, x) for x, y in turns[-1]])
    return np.array([point for turn in turns for point in turn], dtype=np.int64)


OUTLINES: dict[str, Points] = {
    "circle": _polar(_ONE, corners=32),
    "square": _polar(_ONE, corners=4),
    "triangle": _polar(_ONE, corners=3),
    "star": _polar(_ONE, _ONE * 42 // 100, corners=10),
    "cross": _cross(),
    "ring": _polar(_ONE, corners=32),
}


def place_outline(
    outline: Points, radius: int, squash: int, turn: int, centre: tuple[int, int]
) -> Points:
    """Scale an outline to `radius` pixels, squash it along its y axis, turn and move it.

    Args:
        squash: length of the y axis, in per cent of the x axis.
        turn: angle in 1/256 of a turn.
        centre: x and y in pixels.
    """
    x, y = outline[:, 0] * radius * SUB // _ONE, outline[:, 1] * radius * SUB // _ONE
    y = y * squash // 100
    turned_x = (x * _COS[turn] - y * _SIN[turn]) // _ONE + centre[0] * SUB
    turned_y = (x * _SIN[turn] + y * _COS[turn]) // _ONE + centre[1] * SUB
    return np.stack([turned_x, turned_y], axis=1)


def outline_area(outline: Points) -> int:
    """Compute the area of a polygon in pixels, by the shoelace formula."""
    x, y = outline.T
    return abs(int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())) // (2 * SUB * SUB)


def fill_outline(outline: Points, height: int, width: int) -> Mask:
    """Return the pixels whose centre is inside, by the parity of the edges to their left."""
    (x1, y1), (x2, y2) = outline.T[..., None], np.roll(outline, -1, axis=0).T[..., None]
    y = np.arange(height) * SUB + SUB // 2
    edge, row = np.nonzero((y1 <= y) != (y2 <= y))
    x1, y1, x2, y2 = x1[edge, 0], y1[edge, 0], x2[edge, 0], y2[edge, 0]
    crossing = x1 + (x2 - x1) * (y[row] - y1) // (y2 - y1)
    column = np.clip((crossing + SUB // 2) // SUB, 0, width)
    flips = np.bincount(row * (width + 1) + column, minlength=height * (width + 1))
    return flips.reshape(height, width + 1).cumsum(1)[:, :width] % 2 == 1
