"""Sliced training and inference: large images in overlapping tiles, for small objects.

Source: Akyon et al. 2022, arXiv:2202.06934.
"""

import math

import numpy as np

from d2ext.data.augmentation.annotated_image import (
    AnnotatedImage,
    AnnotationTransform,
    Item,
    upright_box,
)
from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.data import transforms as T

Region = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels
KEY = "slice"  # of an image's dict: its region


def slices_of(height: int, width: int, size: int, overlap: float) -> list[Region]:
    """Return the regions that cover an image.

    Args:
        height, width: of the image, in pixels.
        size: side of a region in pixels; smaller images get one region of their own size.
        overlap: least share of a side that neighbours share, in [0, 1).
    Returns:
        Regions of equal size, row by row; the last of a row or column ends at the border.
    """
    rows, columns = (_starts(side, size, overlap) for side in (height, width))
    tall, wide = min(size, height), min(size, width)
    return [(x, y, x + wide, y + tall) for y in rows for x in columns]


def slice_options(section: CfgNode, name: str) -> tuple[int, float]:
    """Read `SLICE_SIZE` and `SLICE_OVERLAP` of a config section; size 0 means no slices.

    Raises:
        ConfigError: one is out of its range.
    """
    size, overlap = section.SLICE_SIZE, section.SLICE_OVERLAP
    if size < 0:
        raise ConfigError(f"{name}.SLICE_SIZE is a side in pixels, or 0 for none; got {size}.")
    if not 0 <= overlap < 1:
        raise ConfigError(
            f"{name}.SLICE_OVERLAP is a share of a slice from 0 to below 1, got {overlap}."
        )
    return size, overlap


def slice_dataset(
    items: list[Item], size: int, overlap: float, filter_empty: bool = False
) -> list[Item]:
    """Replace the large images of a data set by their slices.

    A slice has the objects that reach into it. Of an image with objects, at most as many empty
    slices are kept as slices with objects, evenly spaced: most of a large image is empty.

    Args:
        items: Detectron2's dicts.
        size, overlap: see `slices_of`.
        filter_empty: keep no slice without objects of an image with objects.
    """
    return [part for item in items for part in _parts(item, size, overlap, filter_empty)]


def crop_to_slice(
    annotated: AnnotatedImage, item: Item, transform: AnnotationTransform
) -> AnnotatedImage:
    """Crop an image to the slice that its dict names, if it names one."""
    if KEY not in item:
        return annotated
    x0, y0, x1, y1 = item[KEY]
    height, width = annotated.size
    return transform.apply(annotated, T.CropTransform(x0, y0, x1 - x0, y1 - y0, width, height))


def _starts(side: int, size: int, overlap: float) -> list[int]:
    if side <= size:
        return [0]
    step = max(1.0, size * (1 - overlap))
    count = 1 + math.ceil((side - size) / step)
    return np.linspace(0, side - size, count).round().astype(int).tolist()


def _parts(item: Item, size: int, overlap: float, filter_empty: bool) -> list[Item]:
    regions = slices_of(item["height"], item["width"], size, overlap)
    if len(regions) == 1:
        return [item]
    parts = [_part(item, region) for region in regions]
    full = [part for part in parts if part.get("annotations")]
    if not full:
        return parts
    if filter_empty:
        return full
    empty = [part for part in parts if not part.get("annotations")]
    return full + empty[:: max(1, math.ceil(len(empty) / len(full)))]


def _part(item: Item, region: Region) -> Item:
    objects = item.get("annotations")
    part = {**item, KEY: region}
    if objects is not None:
        part["annotations"] = [one for one in objects if _reaches(one, region)]
    return part


def _reaches(annotation: Item, region: Region) -> bool:
    """Return true if the object's box overlaps the region."""
    box = upright_box(annotation)
    return bool((box[:2] < region[2:]).all() and (box[2:] > region[:2]).all())
