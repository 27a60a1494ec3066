"""Overlay of segments on an image: every pixel tinted by its class, segments edged in white."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from d2ext.visualization.drawing import Color

_OPACITY = 0.5
_EDGE = (255, 255, 255)


def overlay_segments(
    image: NDArray[np.uint8],
    segments: NDArray[np.integer],
    colors: Mapping[int, Color],
    side: int = 480,
) -> NDArray[np.uint8]:
    """Tint the pixels of segments, and scale the picture to a longer side of `side` pixels.

    Args:
        image: (H, W, 3) RGB.
        segments: (H, W) numbers of segments.
        colors: RGB of each number; pixels of others stay as they are.
        side: in pixels.
    """
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(image, size, interpolation=smooth).astype(np.float32)
    numbers, positions = np.unique(segments, return_inverse=True)
    # OpenCV resizes no 64-bit numbers; float32 holds these positions exactly.
    index = cv2.resize(
        positions.reshape(segments.shape).astype(np.float32), size, interpolation=cv2.INTER_NEAREST
    ).astype(np.intp)
    table = np.array([colors.get(int(number), _EDGE) for number in numbers], dtype=np.float32)
    known = np.array([int(number) in colors for number in numbers])[index]
    picture[known] += _OPACITY * (table[index] - picture)[known]
    picture[_edges(index)] = _EDGE
    return picture.astype(np.uint8)


def _edges(index: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return the pixels that differ from their left or upper neighbour."""
    edges = np.zeros(index.shape, dtype=bool)
    edges[:, 1:] |= index[:, 1:] != index[:, :-1]
    edges[1:] |= index[1:] != index[:-1]
    return edges
