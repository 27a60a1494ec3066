"""Panoptic segment maps: images with the id of a segment in each pixel.

Source: Kirillov et al., "Panoptic Segmentation", 2019, arXiv:1801.00868; COCO's file format stores
an id as R + 256 G + 65536 B, Cityscapes' instanceIds as 16-bit grey.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from d2ext.data.formats.dataset_split import Item
from d2ext.files import read_regular
from detectron2.structures import BoxMode

Ids = NDArray[np.int32]
VOID = 0  # the id of pixels without a segment


def read_segment_ids(path: str | Path) -> Ids:
    """Read a segment map: (H, W) int32 ids, 0 for pixels without a segment.

    Raises:
        OSError: the file is missing or is no image.
    """
    content = np.frombuffer(read_regular(path), dtype=np.uint8)
    pixels = None
    with suppress(cv2.error):  # of an image too large, too
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise OSError(f"{path}: not an image")
    if pixels.ndim == 2:
        return pixels.astype(np.int32)
    # OpenCV's colours are blue, green, red. Four bytes are an id with an alpha channel on top.
    code = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGBA
    ids = cv2.cvtColor(pixels, code).view("<i4")[..., 0]
    ids &= 0xFFFFFF  # in place: new pages cost as much as the arithmetic
    return ids


def encode_segment_ids(ids: NDArray) -> NDArray[np.uint8]:
    """Encode (H, W) ids below 2 ** 24 as (H, W, 3) RGB, COCO's format."""
    bytes_of = np.ascontiguousarray(ids.astype("<i4"))[..., None].view(np.uint8)
    return np.ascontiguousarray(bytes_of[..., :3])


def thing_numbers(isthing: Sequence[bool]) -> dict[int, int]:
    """Return the number of each thing category, counted among things alone."""
    things = [category for category, thing in enumerate(isthing) if thing]
    return {category: number for number, category in enumerate(things)}


def position_map(ids: Ids, segments: Sequence[Item]) -> Ids:
    """Map ids to positions in `segments`, counted from 1; 0 for ids that none of them has."""
    starts = run_starts(ids)
    found = positions_of(ids.ravel()[starts], segments)
    return np.repeat(found, np.diff(starts, append=ids.size)).reshape(ids.shape)


def run_starts(*maps: Ids) -> NDArray[np.int64]:
    """Return where runs of equal pixels start in flattened maps of one shape.

    Segments are a few thousand runs, which are sorted and counted far sooner than pixels.
    """
    changes = np.zeros(maps[0].size, dtype=bool)
    changes[:1] = True
    for each in maps:
        flat = each.ravel()
        changes[1:] |= flat[1:] != flat[:-1]
    return np.flatnonzero(changes)


def positions_of(ids: Ids, segments: Sequence[Item]) -> Ids:
    """Map a list of ids to positions as `position_map` does."""
    known = np.array([VOID, *(segment["id"] for segment in segments)])
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known[order], ids, side="right") - 1
    found = order[place.clip(min=0)]  # of segments that share an id the last one has the pixels
    return np.where((known[found] == ids) & (ids != VOID), found, 0).astype(np.int32)


def label_map(positions: Ids, segments: Sequence[Item], ignore: int) -> NDArray[np.uint8]:
    """Return the class index of each pixel, `ignore` where there is no segment.

    Args:
        positions: (H, W), of `position_map`.
        segments: with "category_id", an index below 255.
        ignore: 0 to 255.
    """
    classes = [ignore, *(segment["category_id"] for segment in segments)]
    return np.array(classes, dtype=np.uint8)[positions]


def segment_annotations(positions: Ids, segments: Sequence[Item]) -> list[Item]:
    """Build Detectron2's annotations, with masks (H, W) uint8, of the segments that have pixels."""
    found = []
    for position, place in enumerate(ndimage.find_objects(positions, len(segments)), start=1):
        if place is None:
            continue
        segment, (rows, columns) = segments[position - 1], place
        mask = np.zeros(positions.shape, dtype=np.uint8)
        mask[place] = positions[place] == position
        found.append(
            {
                "bbox": [columns.start, rows.start, columns.stop, rows.stop],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": segment["category_id"],
                "iscrowd": segment.get("iscrowd", 0),
                "isthing": segment.get("isthing", True),  # Detectron2's Cityscapes does not say
                "segmentation": mask,
            }
        )
    return found
