"""Boxes that no detector can learn from: not finite, without area, or outside of their image."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def enclosing_boxes(boxes: Floats) -> Floats:
    """Compute the upright boxes around (N, 4) XYWH or (N, 5) XYWHA boxes, (N, 4) XYXY in pixels.

    They are not clipped, and not finite where `boxes` are not.
    """
    if boxes.shape[1] == 4:
        return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)
    angle = np.deg2rad(boxes[:, 4:])
    cos, sin = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    sides = boxes[:, 2:4] * cos + boxes[:, 3:1:-1] * sin
    return np.concatenate((boxes[:, :2] - sides / 2, boxes[:, :2] + sides / 2), axis=1)


def invalid_boxes(boxes: Floats, image_sizes: Floats) -> dict[str, Mask]:
    """Find the boxes that cannot be used; a box has at most one of these issues.

    Args:
        boxes: (N, 4) XYWH or (N, 5) XYWHA in pixels; rotated ones are outside of the image where
            the upright box around them is.
        image_sizes: (N, 2) width and height of each box's image, in pixels.
    Returns:
        An (N,) mask for each of the codes "box-nonfinite", "box-empty" and "box-outside".
    """
    finite = _all(np.isfinite(boxes))
    empty = finite & _any(boxes[:, 2:4] <= 0)
    with np.errstate(invalid="ignore"):
        around = enclosing_boxes(boxes)
    outside = finite & ~empty & _any((around[:, :2] >= image_sizes) | (around[:, 2:] <= 0))
    return {"box-nonfinite": ~finite, "box-empty": empty, "box-outside": outside}


_SLACK = 0.5  # pixels that a box may reach beyond its image: rounding
_FEW = 4  # fewer boxes are no evidence of a wrong unit


def wrong_unit(boxes: Floats, frames: Floats) -> str:
    """Return the code of the unit that all boxes have in place of pixels; "" for pixels.

    Args:
        boxes: (N, 4) XYWH or (N, 5) XYWHA; those that are not finite are not looked at.
        frames: (N, 2) width and height of each box's image, in pixels.
    Returns:
        "box-normalised", "box-corners" or "".
    """
    finite = _all(np.isfinite(boxes))
    boxes, frames = boxes[finite], frames[finite]
    if boxes_are_normalised(boxes[:, :4], frames):
        return "box-normalised"
    corners = boxes.shape[1] == 4 and boxes_are_corners(boxes, frames)
    return "box-corners" if corners else ""


def boxes_are_corners(boxes: Floats, frames: Floats) -> bool:
    """Return true if (N, 4) boxes read as XYWH are XYXY.

    As XYWH half of them leave the image, as two corners none does.
    """
    reach = boxes[:, :2] + boxes[:, 2:] > frames + _SLACK
    ordered = (boxes[:, 2:] > boxes[:, :2]).all() and (boxes[:, 2:] <= frames + _SLACK).all()
    return bool(len(boxes) >= _FEW and ordered and reach.any(1).mean() >= 0.5)


def boxes_are_normalised(boxes: Floats, frames: Floats) -> bool:
    """Return true if (N, 4) boxes are normalised by the image size instead of in pixels."""
    return bool(len(boxes) >= _FEW and boxes.min() >= 0 and boxes.max() <= 1 and frames.min() > 8)


def _all(mask: Mask) -> Mask:
    return np.logical_and.reduce(mask, axis=1)


def _any(mask: Mask) -> Mask:
    return np.logical_or.reduce(mask, axis=1)
