"""Pictures of flat shapes and their COCO annotations, the same bits on every machine.

Everything is integer arithmetic on the raw output of PCG64, which NumPy promises to keep, unlike
the streams of its distributions.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from d2ext.data.shapes_geometry import (
    OUTLINES,
    SUB,
    TURN,
    Mask,
    Points,
    fill_outline,
    outline_area,
    place_outline,
)

VERSION = 3  # of the pictures: raise it with any change of them, so that nobody reads an old cache

CLASSES = ("circle", "square", "triangle", "star", "cross", "ring")

# What makes the task hard or easy. Lengths in pixels, chances in percent.
WIDTHS = (128, 160)  # of an image
HEIGHTS = (112, 128)
OBJECTS = (2, 5)  # in an image that is not empty
RADII = ((11, 16, 15), (16, 28, 45), (28, 46, 30), (54, 72, 10))  # (least, most, chance)
CUT_CHANCE = 15  # objects that may reach beyond the image
EMPTY_CHANCE = 3  # images without any object
CROWD_CHANCE = 3  # images with a crowd region
CROWD_MEMBERS = (8, 14)  # shapes in a crowd
SHORTEST_AXIS = 75  # per cent of the longest, before turning
OVERLAP_CHANCE = 30  # objects that may hide parts of earlier ones
VISIBLE = 55  # per cent of an object that later ones must leave in sight
COLOUR_HINT = 75  # objects painted in the colour of their class rather than in any
CONTRAST = 110  # least distance between an object and what it hides: sum over R, G and B
NOISE = 6  # most that noise adds to a value of 0 to 255
STRIPES = 6  # most that the stripes behind the objects add

_TRIES = 12  # places tried for an object before it is given up
_SMALLEST = 20  # visible pixels of an object

_COLOURS = (
    (220, 50, 47),
    (60, 180, 75),
    (50, 110, 230),
    (235, 200, 40),
    (170, 70, 200),
    (40, 190, 200),
)

Image = NDArray[np.uint8]  # (H, W, 3) RGB


class Stream:
    """Random integers that are the same on every machine and with every NumPy."""

    def __init__(self, *seed: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed))

    def array(self, size: int, below: int) -> NDArray[np.int64]:
        """Draw (size,) integers of 0 to `below` - 1, with a bias of at most `below` / 2^32."""
        raw = self._bits.random_raw(size) >> np.uint64(32)
        return ((raw * np.uint64(below)) >> np.uint64(32)).astype(np.int64)

    def between(self, least: int, most: int) -> int:
        """Draw one integer of `least` to `most`, both included."""
        return least + int(self.array(1, most - least + 1)[0])

    def chance(self, percent: int) -> bool:
        return self.between(0, 99) < percent


@dataclass
class _Shape:
    """An object on the canvas; `mask` is what later objects have left in sight."""

    label: int
    mask: Mask
    area: int  # pixels inside the image before anything hid it
    outline: Points | None  # None: not a simple polygon
    crowd: bool = False


@dataclass
class _Canvas:
    stream: Stream
    image: NDArray[np.int64]
    shapes: list[_Shape] = field(default_factory=list)


def render(*seed: int) -> tuple[Image, list[dict[str, Any]]]:
    """Draw one picture.

    Args:
        seed: any number of integers; the same ones give the same picture.
    Returns:
        (H, W, 3) RGB and the picture's COCO annotations without `id` and `image_id`;
        `category_id` is the position in CLASSES plus one.
    """
    stream = Stream(*seed)
    canvas = _Canvas(stream, _background(stream))
    if not stream.chance(EMPTY_CHANCE):
        if stream.chance(CROWD_CHANCE):
            _add_crowd(canvas)
        radii = [_radius(stream) for _ in range(stream.between(*OBJECTS))]
        for radius in sorted(radii, reverse=True):  # small ones find a place on what is there
            _add_object(canvas, radius)
    noise = stream.array(canvas.image.size, 2 * NOISE + 1).reshape(canvas.image.shape) - NOISE
    image = np.clip(canvas.image + noise, 0, 255).astype(np.uint8)
    return image, [_annotation(shape) for shape in canvas.shapes]


def _background(stream: Stream) -> NDArray[np.int64]:
    """Draw colours of a 4x4 grid blended into each other, with stripes on top; (H, W, 3)."""
    height, width = stream.between(*HEIGHTS), stream.between(*WIDTHS)
    grid = 40 + stream.array(4 * 4 * 3, 160).reshape(4, 4, 3)
    rows = _blend(grid, height, axis=0)
    image = _blend(rows, width, axis=1)
    dx, dy, period = stream.between(-3, 3), stream.between(-3, 3), stream.between(9, 40)
    strength = stream.between(0, STRIPES)
    phase = (dx * np.arange(width)[None] + dy * np.arange(height)[:, None]) % period
    return image + np.where(phase < period // 2, strength, 0)[..., None]


def _blend(values: NDArray[np.int64], length: int, axis: int) -> NDArray[np.int64]:
    """Stretch `values` to `length` along `axis` by linear interpolation in integers."""
    last = values.shape[axis] - 1
    at = np.arange(length) * last * 256 // length
    left, weight = at // 256, at % 256
    weight = weight.reshape([-1 if d == axis else 1 for d in range(values.ndim)])
    before, after = values.take(left, axis), values.take(left + 1, axis)
    return (before * (256 - weight) + after * weight) // 256


def _add_object(canvas: _Canvas, radius: int) -> None:
    """Paint one object where it is in sight and hides no earlier one, if there is such a place."""
    stream = canvas.stream
    label, may_overlap = stream.between(0, len(CLASSES) - 1), stream.chance(OVERLAP_CHANCE)
    for _ in range(_TRIES):
        shape = _random_shape(canvas, label, radius)
        if shape is not None and _fits(canvas, shape, may_overlap):
            _paint(canvas, shape)
            return


def _radius(stream: Stream) -> int:
    roll = stream.between(0, 99)
    for least, most, chance in RADII:
        if roll < chance:
            return stream.between(least, most)
        roll -= chance
    raise AssertionError("the chances in RADII sum to 100")


def _random_shape(canvas: _Canvas, label: int, radius: int) -> _Shape | None:
    """Draw a shape of `label` with its centre in the image; None if too little is inside."""
    height, width, _ = canvas.image.shape
    stream = canvas.stream
    margin = radius // 3 if stream.chance(CUT_CHANCE) else radius
    x, y = min(margin, width // 2), min(margin, height // 2)
    centre = (stream.between(x, width - x), stream.between(y, height - y))
    return _shape_at(canvas, label, radius, centre)


def _shape_at(canvas: _Canvas, label: int, radius: int, centre: tuple[int, int]) -> _Shape | None:
    height, width, _ = canvas.image.shape
    stream = canvas.stream
    turn = stream.between(0, TURN - 1)
    squash = stream.between(SHORTEST_AXIS, 100)
    outline = place_outline(OUTLINES[CLASSES[label]], radius, squash, turn, centre)
    mask = fill_outline(outline, height, width)
    whole = outline_area(outline)
    if CLASSES[label] == "ring":
        hole = place_outline(OUTLINES["ring"] * 9 // 16, radius, squash, turn, centre)
        mask &= ~fill_outline(hole, height, width)
        whole -= outline_area(hole)
    area = int(mask.sum())
    if area < _SMALLEST or 100 * area < VISIBLE * whole:
        return None
    inside = bool((outline >= 0).all() and (outline <= [width * SUB, height * SUB]).all())
    simple = inside and CLASSES[label] != "ring"
    return _Shape(label, mask, area, outline if simple else None)


def _fits(canvas: _Canvas, new: _Shape, may_overlap: bool) -> bool:
    """Return true if every object would stay in sight, and no crowd would be touched."""
    for old in canvas.shapes:
        hidden = old.mask & new.mask
        if not hidden.any():
            continue
        left = int(old.mask.sum() - hidden.sum())
        if not may_overlap or old.crowd or 100 * left < VISIBLE * old.area or left < _SMALLEST:
            return False
    return True


def _paint(canvas: _Canvas, shape: _Shape) -> None:
    for old in canvas.shapes:
        if (old.mask & shape.mask).any():
            old.mask, old.outline = old.mask & ~shape.mask, None
    canvas.image[shape.mask] = _colour(canvas, shape)
    canvas.shapes.append(shape)


def _colour(canvas: _Canvas, shape: _Shape) -> NDArray[np.int64]:
    """Choose the colour of the class, or another that stands out from what it hides; (3,)."""
    behind = canvas.image[shape.mask].sum(0) // int(shape.mask.sum())
    stream = canvas.stream
    colour = np.array(_COLOURS[shape.label])
    hinted = stream.chance(COLOUR_HINT)
    while not hinted or np.abs(colour - behind).sum() < CONTRAST:
        colour, hinted = stream.array(3, 256), True
    return colour


def _add_crowd(canvas: _Canvas) -> None:
    """Paint a heap of small shapes of one class and annotate it as one crowd region."""
    stream = canvas.stream
    height, width, _ = canvas.image.shape
    label = stream.between(0, len(CLASSES) - 1)
    left, top = stream.between(8, width - 56), stream.between(8, height - 48)
    union = np.zeros((height, width), bool)
    for _ in range(stream.between(*CROWD_MEMBERS)):
        centre = (left + stream.between(0, 48), top + stream.between(0, 40))
        member = _shape_at(canvas, label, stream.between(5, 7), centre)
        if member is not None:
            canvas.image[member.mask] = _colour(canvas, member)
            union |= member.mask
    if union.any():
        canvas.shapes.append(_Shape(label, union, int(union.sum()), None, crowd=True))


def _annotation(shape: _Shape) -> dict[str, Any]:
    """Return COCO's fields; the box is the tightest one around the pixels in sight."""
    rows, columns = np.flatnonzero(shape.mask.any(1)), np.flatnonzero(shape.mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "category_id": shape.label + 1,
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "area": int(shape.mask.sum()),
        "iscrowd": int(shape.crowd),
        "segmentation": _rle(shape.mask) if shape.outline is None else _polygon(shape.outline),
    }


def _polygon(outline: Points) -> list[list[float]]:
    return [(outline / SUB).ravel().tolist()]


def _rle(mask: Mask) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}
