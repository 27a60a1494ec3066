"""Pictures of a sample: six cameras with boxes in space, and a bird's-eye view."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from d2ext.projects.detr3d.data.classes import CLASSES
from d2ext.projects.detr3d.data.geometry import Array
from d2ext.projects.detr3d.data.samples import Item
from d2ext.projects.detr3d.modeling.decoding import SpaceDetections
from detectron2.data.detection_utils import read_image

NEAR = 0.1  # metres: edges are cut off at this depth
RANGE = 51.2  # metres from the lidar to the border of the bird's-eye view
GRID = 10  # metres between the rings of the bird's-eye view
# The six cameras as they look around the vehicle, by their position in a sample.
ROWS = ((2, 0, 1), (4, 3, 5))
TRUTH = (60, 200, 60)  # RGB
COLOURS = (
    *((31, 119, 180), (255, 127, 14), (148, 103, 189), (214, 39, 40), (140, 86, 75)),
    *((127, 127, 127), (227, 119, 194), (188, 189, 34), (23, 190, 207), (255, 187, 120)),
)
# Corners by signs of x, y, z in the box's own frame, the four of the front first; the first eight
# edges are those of front and back.
_SIGNS = np.array(
    [[x, y, z] for x in (1, -1) for y, z in ((1, 1), (1, -1), (-1, -1), (-1, 1))], dtype=np.float64
)
_EDGES = [(i, (i + 1) % 4) for i in range(4)]
_EDGES += [(i + 4, (i + 1) % 4 + 4) for i in range(4)] + [(i, i + 4) for i in range(4)]


@dataclass(frozen=True)
class Drawn:
    """Boxes that are drawn alike.

    Attributes:
        boxes: (n, 9) as in `d2ext.projects.detr3d.data.samples`.
        colours: RGB of each.
        labels: text of each; "" for none.
    """

    boxes: Array
    colours: Sequence[tuple[int, int, int]]
    labels: Sequence[str]

    @classmethod
    def of_truth(cls, item: Item) -> "Drawn":
        """Return the ground truth of the ten classes."""
        boxes = item["boxes_3d"][item["labels"] >= 0]
        return cls(boxes, [TRUTH] * len(boxes), [""] * len(boxes))

    @classmethod
    def of_detections(cls, found: SpaceDetections) -> "Drawn":
        """Return detections, each in the colour of its class."""
        labels = found.classes.tolist()
        names = [
            f"{CLASSES[n]} {s:.2f}" for n, s in zip(labels, found.scores.tolist(), strict=True)
        ]
        return cls(found.boxes.cpu().double().numpy(), [COLOURS[n] for n in labels], names)


def corners(boxes: Array) -> Array:
    """Return the corners of (n, 9) boxes in the lidar frame: (n, 8, 3) metres."""
    yaw = -boxes[:, 6] - np.pi / 2
    local = _SIGNS * boxes[:, None, [4, 3, 5]] / 2  # length along x, width along y
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x = local[..., 0] * cos - local[..., 1] * sin
    y = local[..., 0] * sin + local[..., 1] * cos
    return np.stack((x, y, local[..., 2]), axis=-1) + boxes[:, None, :3]


def draw_sample(
    item: Item, groups: Sequence[Drawn], height: int = 270, reach: float = RANGE
) -> np.ndarray:
    """Draw the six cameras around the vehicle, and the bird's-eye view beside them.

    Args:
        groups: what is drawn, the first below the others.
        height: of each camera's picture, in pixels.
        reach: see `draw_birds_eye`.
    Returns:
        (2 * height, W, 3) RGB uint8.
    """
    cameras = [_draw_camera(item, number, groups, height) for number in range(len(item["cameras"]))]
    rows = [np.concatenate([cameras[number] for number in row], axis=1) for row in ROWS]
    around = np.concatenate(rows, axis=0)
    return np.concatenate((around, draw_birds_eye(groups, len(around), reach)), axis=1)


def draw_birds_eye(groups: Sequence[Drawn], size: int, reach: float = RANGE) -> np.ndarray:
    """Draw boxes from above, ahead up: (size, size, 3) RGB uint8.

    Args:
        reach: distance from the centre to the border, in metres.
    """
    image = np.full((size, size, 3), 255, dtype=np.uint8)
    scale = size / (2 * reach)
    for radius in range(GRID, int(reach) + 1, GRID):
        centre = (size // 2, size // 2)
        cv2.circle(image, centre, round(radius * scale), (225, 225, 225), 1, cv2.LINE_AA)
    for group in groups:
        for box, points, colour in zip(
            group.boxes, corners(group.boxes), group.colours, strict=True
        ):
            ground = points[[0, 3, 7, 4], :2]  # front left, front right, back right, back left
            _polygon(image, ground, scale, colour)
            ahead = np.stack((box[:2], ground[:2].mean(axis=0)))
            _polygon(image, ahead, scale, colour)
    return image


def _polygon(image: np.ndarray, points: Array, scale: float, colour: tuple[int, int, int]) -> None:
    half = len(image) / 2
    pixels = np.stack((half + points[:, 0] * scale, half - points[:, 1] * scale), axis=1)
    cv2.polylines(image, [np.rint(pixels).astype(np.int32)], True, colour, 1, cv2.LINE_AA)


def _draw_camera(item: Item, number: int, groups: Sequence[Drawn], height: int) -> np.ndarray:
    image = read_image(item["cameras"][number], format="RGB")
    scale = height / len(image)
    width = round(image.shape[1] * scale)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    project = np.diag([scale, scale, 1, 1]) @ item["lidar2img"][number]
    for group in groups:
        found = zip(corners(group.boxes), group.colours, group.labels, strict=True)
        for points, colour, label in found:
            _draw_box(image, points @ project[:3, :3].T + project[:3, 3], colour, label)
    return image


def _draw_box(
    image: np.ndarray, projected: Array, colour: tuple[int, int, int], label: str
) -> None:
    """Draw the edges of a box from (8, 3) pixels times depth and depth."""
    for number, (start, end) in enumerate(_EDGES):
        first, last = projected[start], projected[end]
        if max(first[2], last[2]) < NEAR:
            continue
        ends = [_cut(first, last), _cut(last, first)]
        pixels = [tuple(np.clip(p[:2] / p[2], -1e4, 1e4).astype(int).tolist()) for p in ends]
        cv2.line(image, *pixels, colour, 2 if number < 4 else 1, cv2.LINE_AA)
    if label and (projected[:, 2] >= NEAR).all():
        x, y = (projected[:, :2] / projected[:, 2:]).min(axis=0)
        if 0 <= x < image.shape[1] and 0 <= y < image.shape[0]:
            place = (int(x), max(int(y) - 3, 8))
            cv2.putText(image, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, colour, 1, cv2.LINE_AA)


def _cut(point: Array, other: Array) -> Array:
    """Return the point, or where the edge to `other` reaches the near plane."""
    if point[2] >= NEAR:
        return point
    return point + (other - point) * (NEAR - point[2]) / (other[2] - point[2])
