"""Semantic masks: a folder of images, and one of pictures with the class of each pixel.

Masks hold class indices, ids that a list of classes explains, or colours. Detectron2 reads indices
in 8-bit grey: whatever differs gets a copy in the cache that is so, with 255 for "no class".
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2ext.data.formats.coco_images import image_items
from d2ext.data.formats.coco_layout import CocoSplit
from d2ext.data.formats.dataset_split import DatasetSplit, Item
from d2ext.data.formats.image_files import image_size
from d2ext.data.formats.semantic_classes import ClassList, listed_classes, of_categories
from d2ext.data.formats.semantic_layout import SemanticSplit, find, mask_pairs
from d2ext.data.formats.semantic_pixels import (
    IGNORE,
    MOST,
    Reading,
    mode_of,
    use_indices,
    values_of,
)
from d2ext.data.formats.semantic_soft import CUT, has_soft_edges
from d2ext.data.issues import reading_issue
from d2ext.errors import DataError

__all__ = ["FORMAT", "find", "is_mask_list", "load", "read_mask_list"]

FORMAT = "semantic masks"
_COLOURED = {"RGB", "RGBA", "CMYK"}
_WHITE = 100  # the greater of two values, from which it is no index of a class


def load(part: SemanticSplit) -> DatasetSplit:
    """Pair images with masks and see to it that the masks hold class indices.

    Raises:
        DataError: no image has a mask, or the masks don't hold classes.
    """
    dataset = DatasetSplit(FORMAT, part.path, part.split, "semantic", (), [])
    for image, mask in mask_pairs(part, dataset.issues):
        _add(dataset, image, mask)
    _resolve_classes(dataset, listed_classes(part, dataset.encodings), part.all_masks)
    return dataset


def is_mask_list(document: Any) -> bool:
    """Return true if a JSON document lists images with their semantic masks."""
    images = document.get("images") if isinstance(document, dict) else None
    first = images[0] if isinstance(images, list) and images else None
    return isinstance(first, dict) and "sem_seg_file_name" in first


def read_mask_list(part: CocoSplit, document: Item) -> DatasetSplit:
    """Read a JSON file of images, each with "sem_seg_file_name", and categories.

    Raises:
        DataError: images or masks are not found.
    """
    dataset = DatasetSplit(FORMAT, part.path, part.split, "semantic", (), [])
    images = image_items(part, document["images"], dataset.issues, dataset.notes)
    names = {item.get("id"): str(item.get("sem_seg_file_name")) for item in document["images"]}
    above = (part.path.parent, part.path.parent.parent)
    named = [base / name for base in above for name in ("labels", "masks", "annotations")]
    folders = [*above, *named, *(folder / part.split for folder in named if part.split)]
    for image in images:
        name = names.get(image["image_id"], "")
        found = next((f / name for f in folders if os.path.isfile(f / name)), None)
        if found is None:
            dataset.issues.append(
                reading_issue(
                    "labels-missing", "image without a mask", str(part.path), image["file_name"]
                )
            )
            continue
        del image["annotations"]
        dataset.images.append(image | {"sem_seg_file_name": str(found)})
    if not dataset.images:
        raise DataError(f"{part.path}: its masks are in none of {', '.join(map(str, folders))}.")
    dataset.ignore_label = int(document.get("ignore_label", IGNORE))
    masks = [Path(image["sem_seg_file_name"]) for image in dataset.images]
    _resolve_classes(dataset, of_categories(document.get("categories", [])), masks)
    return dataset


def _add(dataset: DatasetSplit, image: Path, mask: Path) -> None:
    size = image_size(image)
    if size is None:
        dataset.issues.append(
            reading_issue("image-unreadable", "unreadable image", str(image), str(image))
        )
        return
    dataset.images.append(
        {
            "file_name": str(image),
            "image_id": len(dataset.images) + 1,
            "width": size[0],
            "height": size[1],
            "annotated_in": str(mask),
            "sem_seg_file_name": str(mask),
        }
    )


def _resolve_classes(
    dataset: DatasetSplit, classes: ClassList | None, masks: Sequence[Path]
) -> None:
    """Name the classes, and point to copies of the masks where these don't hold indices."""
    modes = [mode_of(image["sem_seg_file_name"]) for image in dataset.images]
    for image, mode in zip(dataset.images, modes, strict=True):
        if not mode:
            where = image["sem_seg_file_name"]
            dataset.issues.append(
                reading_issue("labels-missing", "unreadable mask", where, image["file_name"])
            )
    dataset.images = [image for image, mode in zip(dataset.images, modes, strict=True) if mode]
    coloured = bool(_COLOURED & set(modes)) and not _is_all_grey(classes, masks)
    if classes is not None and classes.ignore is not None:
        dataset.ignore_label = classes.ignore
    reading = _reading(dataset, classes, masks, coloured)
    dataset.classes = reading.classes
    grey = set(modes) <= {"L", ""} and dataset.ignore_label == IGNORE
    use_indices(dataset, reading, copy=not grey)


def _reading(
    dataset: DatasetSplit, classes: ClassList | None, masks: Sequence[Path], coloured: bool
) -> Reading:
    two = None if coloured else _two_classes(classes)
    if two and has_soft_edges(masks):
        dataset.notes.append(f"black and white masks with soft edges: {two[1]} from grey {CUT} on")
        return Reading(two, (0, IGNORE), False, CUT)
    if two and classes and len(found := values_of(masks, False)) == 2 and _is_black_white(found):
        dataset.notes.append(f"masks of two values: 0 is {two[0]}, {found[1]} {two[1]}")
        return Reading(two, tuple(found), False)
    if classes is not None:
        values = classes.colours if coloured else classes.ids
        if values is not None:
            return Reading(classes.names, values, coloured)
    found = values_of(masks, coloured)
    if len(found) > MOST:
        raise DataError(
            f"{dataset.path}: the masks hold {len(found)} different values, too many for classes. "
            "Are these photos, or masks saved as JPEG? Save them as PNG."
        )
    if classes is not None and coloured and len(classes.names) == len(found):
        raise DataError(
            f"{dataset.path}: the masks hold colours, and {classes.path} names classes without "
            "colours. Add them: a classes.csv with the columns name,r,g,b."
        )
    return _guess(dataset, found, coloured)


def _is_all_grey(classes: ClassList | None, masks: Sequence[Path]) -> bool:
    """Return true for coloured masks in which nothing has a colour, and no list has one."""
    if classes is not None and classes.colours is not None:
        return False
    found = values_of(masks, True)
    return all(value >> 16 == value >> 8 & 255 == value & 255 for value in found)


def _two_classes(classes: ClassList | None) -> tuple[str, str] | None:
    """Return the names of background and foreground; None where a list has other classes."""
    if classes is None:
        return "background", "foreground"
    if len(classes.names) == 1:
        return "background", classes.names[0]
    two = len(classes.names) == 2 and classes.ids in ((0, 1), (0, IGNORE))
    return (classes.names[0], classes.names[1]) if two else None


def _is_black_white(values: Sequence[int]) -> bool:
    return values[0] == 0 and values[1] >= _WHITE


def _guess(dataset: DatasetSplit, found: list[int], coloured: bool) -> Reading:
    """Name the values that nobody explains."""
    if coloured:
        dataset.notes.append("no list of classes: each colour of the masks is one")
        return Reading(tuple(f"#{value:06x}" for value in found), tuple(found), True)
    if len(found) == 2 and (found == [0, 1] or _is_black_white(found)):
        dataset.notes.append(f"masks of two values: 0 is background, {found[1]} foreground")
        return Reading(("background", "foreground"), tuple(found), False)
    most = max((value for value in found if value != dataset.ignore_label), default=0)
    dataset.notes.append(
        "no list of classes (classes.txt): classes are named by their value; "
        f"{dataset.ignore_label} is no class"
    )
    return Reading(tuple(f"class_{n}" for n in range(most + 1)), tuple(range(most + 1)), False)
