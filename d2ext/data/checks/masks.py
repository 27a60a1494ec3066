"""Mask checks: polygons and run lengths, compared with their boxes, images and each other."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, NamedTuple

import cv2
import numpy as np
import shapely
from pycocotools import mask as coco_mask

from d2ext.data.box_validity import Floats, Mask
from d2ext.data.checks.context import CheckContext
from d2ext.data.checks.pairs import Integers, pairs_by_left_side, split_by_image
from d2ext.data.mask_validity import MAX_PIXELS, invalid_mask, invalid_run_lengths

_SLACK = 1.0  # pixels that a polygon may reach beyond its image
_FIT = 2.0  # pixels that a box and its mask may differ by, or
_SHARE = 0.1  # this share of the box's side
_PAIRS = 1 << 20  # of masks that are compared at once: their IoUs take 8 MB
_EXCEPTION = 0.01  # share of objects with shared pixels, up to which sharing is a slip
_OBJECTS = 1 << 15  # objects whose polygons become arrays at once: some tens of MB


def check_masks(context: CheckContext) -> None:
    """Check each mask, then compare those of one image."""
    masks = [item.get("segmentation") for item in context.objects]
    masked = np.fromiter(map(bool, masks), bool, len(masks))
    if not masked.any():
        return
    # An empty mask is one that the reader has reported as broken.
    missing = np.array([mask is None for mask in masks]) & ~context.crowd
    for number in np.flatnonzero(missing).tolist():
        context.add_object("mask-missing", number, "a box without a mask")
    polygons = np.array([isinstance(mask, list) for mask in masks])
    masked &= _near(context, masked & context.usable & polygons)
    mask_boxes = np.full((len(context.objects), 4), np.nan)
    _check_polygons(context, np.flatnonzero(masked & context.usable & polygons), mask_boxes)
    # Run lengths have to be drawn one by one; COCO has them for crowd regions alone.
    for number in np.flatnonzero(masked & context.usable & ~polygons).tolist():
        mask_boxes[number] = _check_run_lengths(context, number)
    numbers = np.flatnonzero(np.isfinite(mask_boxes[:, 0]))
    _compare_with_boxes(context, numbers, mask_boxes[numbers])
    _check_overlaps(context, numbers[~context.crowd[numbers]], mask_boxes)


def _near(context: CheckContext, polygons: Mask) -> Mask:
    """Report masks whose polygons are too far outside the image to be drawn; return the others."""
    near = np.ones(len(context.objects), dtype=bool)
    if context.split.polygons_near:
        return near
    for number in np.flatnonzero(polygons).tolist():
        width, height = (int(side) for side in context.frames[number])
        if problem := invalid_mask(context.objects[number]["segmentation"], width, height):
            context.add_object(problem[0], number, problem[1])
            near[number] = False
    return near


def _check_run_lengths(context: CheckContext, number: int) -> Floats:
    """Check one mask of run lengths; return its (4,) XYXY box, NaN where it cannot be used."""
    mask = context.objects[number]["segmentation"]
    width, height = (int(side) for side in context.frames[number])
    if problem := invalid_run_lengths(mask, width, height):
        context.add_object(problem[0], number, problem[1])
        return np.full(4, np.nan)
    x, y, w, h = coco_mask.toBbox(mask).tolist()
    if not context.crowd[number]:
        pixels = coco_mask.decode(mask)
        # Labelling the parts of the whole image would take far longer.
        inside = np.ascontiguousarray(pixels[int(y) : int(y + h), int(x) : int(x + w)])
        _report_parts(context, number, cv2.connectedComponents(inside, connectivity=4)[0] - 1)
    return np.array([x, y, x + w, y + h])


class _Polygons(NamedTuple):
    """K masks as arrays.

    Args:
        low, high: (K, 2) least and greatest x, y in pixels.
        parts: (K,) number of polygons.
        crossing: (K,) number of polygons whose outline crosses itself.
    """

    low: Floats
    high: Floats
    parts: Integers
    crossing: Integers


def _check_polygons(context: CheckContext, numbers: Integers, mask_boxes: Floats) -> None:
    """Check masks of polygons and write their XYXY boxes into the (N, 4) `mask_boxes`."""

    def measure(chunk: Integers) -> _Polygons:
        return _measure_polygons([context.objects[n]["segmentation"] for n in chunk.tolist()])

    chunks = [numbers[start : start + _OBJECTS] for start in range(0, len(numbers), _OBJECTS)]
    with ThreadPoolExecutor() as pool:  # shapely works without the interpreter's lock
        measured = list(zip(chunks, pool.map(measure, chunks), strict=True))
    for chunk, found in measured:
        mask_boxes[chunk] = np.concatenate((found.low, found.high), axis=1)
        beyond = np.maximum(-found.low, found.high - context.frames[chunk]).max(1)
        for index in np.flatnonzero(beyond > _SLACK).tolist():
            context.add_object("mask-outside", chunk[index], f"by {beyond[index]:.1f} pixels")
        for index in np.flatnonzero(found.parts > 1).tolist():
            _report_parts(context, chunk[index], found.parts[index])
        for index in np.flatnonzero(found.crossing).tolist():
            detail = f"{found.crossing[index]} of {found.parts[index]} polygons"
            context.add_object("mask-crossing", chunk[index], detail)


def _measure_polygons(masks: Sequence[Sequence[Sequence[float]]]) -> _Polygons:
    """Measure K masks, each a list of polygons x, y, x, y, ... in pixels."""
    parts = np.fromiter(map(len, masks), np.int64, len(masks))
    rings = list(chain.from_iterable(masks))
    lengths = np.fromiter(map(len, rings), np.int64, len(rings)) // 2
    values = np.fromiter(chain.from_iterable(rings), np.float64, 2 * lengths.sum())
    points = values.reshape(-1, 2)
    first_ring = np.cumsum(parts) - parts
    first_point = (np.cumsum(lengths) - lengths)[first_ring]
    crossing = np.add.reduceat(_crossing(points, lengths).astype(np.int64), first_ring)
    low = np.minimum.reduceat(points, first_point)
    return _Polygons(low, np.maximum.reduceat(points, first_point), parts, crossing)


def _crossing(points: Floats, lengths: Integers) -> Mask:
    """Return a mask of the polygons, of (P, 2) points and (R,) lengths, that cross themselves."""
    outlines = shapely.linearrings(points, indices=np.repeat(np.arange(len(lengths)), lengths))
    # A triangle cannot; one without area is no simple outline either.
    return ~shapely.is_simple(outlines) & (lengths > 3)


def _report_parts(context: CheckContext, number: int, parts: int) -> None:
    if parts > 1:
        context.add_object("mask-parts", number, f"{parts} parts")


def _compare_with_boxes(context: CheckContext, numbers: Integers, mask_boxes: Floats) -> None:
    """Compare the boxes of K objects with the (K, 4) XYXY boxes of their masks.

    Both are clipped to the image, since many tools clip one of them.
    """
    frames = np.tile(context.frames[numbers], 2)
    boxes, mask_boxes = (b.clip(0, frames) for b in (context.boxes[numbers], mask_boxes))
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    apart = np.abs(boxes - mask_boxes) > np.maximum(_FIT, _SHARE * sides)
    for index in np.flatnonzero(apart.any(1)).tolist():
        x0, y0, x1, y1 = mask_boxes[index]
        shown = ", ".join(f"{value:.6g}" for value in (x0, y0, x1 - x0, y1 - y0))
        detail = f"box {context.box_text(numbers[index])}, mask in [{shown}]"
        context.add_object("mask-box", numbers[index], detail)


def _check_overlaps(context: CheckContext, numbers: Integers, mask_boxes: Floats) -> None:
    """Report masks that share pixels, unless that is common in the data set."""
    found: list[tuple[int, int, int]] = []
    meeting = _with_meeting_boxes(numbers, context.owners[numbers], mask_boxes)
    for group in split_by_image(meeting, context.owners[meeting]):
        for shared in _shared_pixels(context, group):
            found.append(shared)
            if len(found) > _EXCEPTION * len(context.objects) + 1:
                return  # masks overlap by convention here, as they do in COCO
    for one, other, pixels in found:
        detail = f"{pixels} pixels shared with {context.place(one)}"
        context.add_object("mask-overlap", other, detail)


def _with_meeting_boxes(numbers: Integers, owners: Integers, mask_boxes: Floats) -> Integers:
    """Return those of K objects whose mask may share pixels with another of the same image.

    Drawing masks takes long, comparing their boxes does not.
    """
    boxes = mask_boxes[numbers] + (-1, -1, 1, 1)  # drawing rounds to pixels
    meeting = np.zeros(len(numbers), dtype=bool)
    for later, earlier in pairs_by_left_side(boxes[:, 0], boxes[:, 2] - boxes[:, 0], owners):
        one, other = boxes[later], boxes[earlier]
        meets = (one[:, :2] < other[:, 2:]).all(1) & (other[:, :2] < one[:, 2:]).all(1)
        meeting[later[meets]] = True
        meeting[earlier[meets]] = True
    return numbers[meeting]


def _shared_pixels(context: CheckContext, group: Integers) -> Iterator[tuple[int, int, int]]:
    """Yield pairs of an image's objects with the number of pixels that both masks cover."""
    width, height = (int(side) for side in context.frames[group[0]])
    if width * height > MAX_PIXELS:
        return
    masks = [_run_lengths(context.objects[n]["segmentation"], height, width) for n in group]
    rows = max(_PAIRS // len(masks), 1)
    for first in range(0, len(masks), rows):
        rest = masks[first:]
        ious = np.triu(coco_mask.iou(masks[first : first + rows], rest, [0] * len(rest)), 1)
        for a, b in zip(*np.nonzero(ious > 0), strict=True):
            shared = coco_mask.merge([rest[a], rest[b]], 1)
            yield int(group[first + a]), int(group[first + b]), int(coco_mask.area(shared))


def _run_lengths(segmentation: Any, height: int, width: int) -> Any:
    if isinstance(segmentation, dict):
        return segmentation
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
