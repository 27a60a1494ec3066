"""Rendering of made-up scenes: coloured boxes on a plane, as pinhole cameras see them."""

from collections.abc import Sequence

import cv2
import numpy as np

from d2ext.projects.detr3d.data.geometry import Array

NEAR = 0.1  # metres: what is nearer is cut off
GROUND, SKY = (96, 104, 96), (216, 190, 160)  # BGR
# Corners of each side of a box, as signs of x, y, z; the shades tell the sides apart.
_SIDES = {
    "front": ([(1, -1, -1), (1, 1, -1), (1, 1, 1), (1, -1, 1)], 1.0),
    "back": ([(-1, -1, -1), (-1, 1, -1), (-1, 1, 1), (-1, -1, 1)], 0.45),
    "left": ([(-1, 1, -1), (1, 1, -1), (1, 1, 1), (-1, 1, 1)], 0.8),
    "right": ([(-1, -1, -1), (1, -1, -1), (1, -1, 1), (-1, -1, 1)], 0.65),
    "top": ([(-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)], 0.9),
}


def render_camera(
    camera2ego: Array,
    intrinsic: Array,
    size: tuple[int, int],
    boxes: Array,
    colours: Sequence[tuple[int, int, int]],
    rng: np.random.Generator,
) -> np.ndarray:
    """Render boxes on the plane z = 0.

    Args:
        camera2ego: 4 x 4.
        intrinsic: 3 x 3.
        size: height and width in pixels.
        boxes: (n, 7) centre, width, length, height, yaw in the ego frame.
        colours: BGR of each box.
        rng: for the noise of the pixels.
    Returns:
        (H, W, 3) BGR uint8.
    """
    image = np.full((*size, 3), GROUND, dtype=np.uint8)
    image[: round(intrinsic[1, 2])] = SKY  # the cameras look along the horizon
    distance = np.linalg.norm(boxes[:, :2] - camera2ego[:2, 3], axis=1)
    for index in np.argsort(-distance):
        _draw_box(image, boxes[index], colours[index], camera2ego, intrinsic)
    noisy = image + rng.normal(0, 4, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _draw_box(
    image: np.ndarray,
    box: Array,
    colour: tuple[int, int, int],
    camera2ego: Array,
    intrinsic: Array,
) -> None:
    visible = []
    for signs, shade in _SIDES.values():
        corners = _corners(box, np.array(signs, dtype=np.float64))
        in_camera = (corners - camera2ego[:3, 3]) @ camera2ego[:3, :3]
        polygon = _in_front(in_camera)
        if len(polygon) >= 3:
            visible.append((float(in_camera[:, 2].mean()), polygon, shade))
    for _, polygon, shade in sorted(visible, key=lambda side: -side[0]):
        pixels = polygon @ intrinsic.T
        points = np.clip(pixels[:, :2] / pixels[:, 2:], -1e4, 1e4)
        shaded = [int(shade * channel) for channel in colour]
        cv2.fillConvexPoly(image, np.rint(points * 16).astype(np.int32), shaded, cv2.LINE_AA, 4)


def _corners(box: Array, signs: Array) -> Array:
    width, length, height, yaw = box[3:7]
    x, y, z = (signs * np.array([length, width, height]) / 2).T
    turned = np.stack((x * np.cos(yaw) - y * np.sin(yaw), x * np.sin(yaw) + y * np.cos(yaw), z), 1)
    return turned + box[:3]


def _in_front(polygon: Array) -> Array:
    """Clip a polygon (n, 3) in camera coordinates at the near plane."""
    kept = []
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if start[2] >= NEAR:
            kept.append(start)
        if (start[2] >= NEAR) != (end[2] >= NEAR):
            kept.append(start + (end - start) * (NEAR - start[2]) / (end[2] - start[2]))
    return np.array(kept).reshape(-1, 3)
