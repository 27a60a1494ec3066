"""Semantic masks: a folder of images, and one of pictures with the class of each pixel.

Masks hold class indices, ids that a list of classes explains, or colours. Detectron2 reads indices
in 8-bit grey: whatever differs gets a copy in the cache that is so, with 255 for "no class".
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from d2ext.data.cache import cache_folder, cached_folder
from d2ext.data.sources.coco_images import image_items
from d2ext.data.sources.coco_layout import Part as JsonPart
from d2ext.data.sources.files import image_size
from d2ext.data.sources.semantic_classes import ClassList, listed_classes, of_categories
from d2ext.data.sources.semantic_layout import Part, find, mask_pairs
from d2ext.data.sources.source import Fault, Item, Source
from d2ext.errors import DataError

__all__ = ["FORMAT", "find", "is_mask_list", "load", "read_mask_list"]

FORMAT = "semantic masks"
IGNORE = 255
_VERSION = 1  # of the masks in the cache
_MOST = 254  # classes that 8 bits can tell apart, beside "no class"


@dataclass(frozen=True)
class _Reading:
    """How masks are to be read: classes, and the value of each in the masks."""

    classes: tuple[str, ...]
    values: tuple[int, ...]
    coloured: bool


def load(part: Part) -> Source:
    """Pair images with masks and see to it that the masks hold class indices.

    Raises:
        DataError: no image has a mask, or the masks don't hold classes.
    """
    source = Source(FORMAT, part.path, part.split, "semantic", (), [])
    for image, mask in mask_pairs(part, source.faults):
        _add(source, image, mask)
    _settle(source, listed_classes(part), part.all_masks)
    return source


def is_mask_list(document: Any) -> bool:
    """Whether a JSON document lists images with their semantic masks."""
    images = document.get("images") if isinstance(document, dict) else None
    return isinstance(images, list) and bool(images) and "sem_seg_file_name" in images[0]


def read_mask_list(part: JsonPart, document: Item) -> Source:
    """Read a JSON file of images, each with "sem_seg_file_name", and categories.

    Raises:
        DataError: images or masks are not found.
    """
    source = Source(FORMAT, part.path, part.split, "semantic", (), [])
    images = image_items(part, document["images"], source.faults)
    names = {
        str(item["file_name"]): str(item.get("sem_seg_file_name")) for item in document["images"]
    }
    above = (part.path.parent, part.path.parent.parent)
    named = [base / name for base in above for name in ("labels", "masks", "annotations")]
    folders = [*above, *named, *(folder / part.split for folder in named if part.split)]
    for image in images:
        name = next(value for key, value in names.items() if image["file_name"].endswith(key))
        found = next((f / name for f in folders if (f / name).is_file()), None)
        if found is None:
            source.faults.append(Fault("image without a mask", str(part.path), image["file_name"]))
            continue
        del image["annotations"]
        source.images.append(image | {"sem_seg_file_name": str(found)})
    if not source.images:
        raise DataError(f"{part.path}: its masks are in none of {', '.join(map(str, folders))}.")
    source.ignore_label = int(document.get("ignore_label", IGNORE))
    masks = [Path(image["sem_seg_file_name"]) for image in source.images]
    _settle(source, of_categories(document.get("categories", [])), masks)
    return source


def _add(source: Source, image: Path, mask: Path) -> None:
    size = image_size(image)
    if size is None:
        source.faults.append(Fault("unreadable image", str(image), str(image)))
        return
    source.images.append(
        {
            "file_name": str(image),
            "image_id": len(source.images) + 1,
            "width": size[0],
            "height": size[1],
            "annotated_in": str(mask),
            "sem_seg_file_name": str(mask),
        }
    )


def _settle(source: Source, classes: ClassList | None, masks: Sequence[Path]) -> None:
    """Name the classes, and point to copies of the masks where these don't hold indices."""
    modes = [_mode(image["sem_seg_file_name"]) for image in source.images]
    for image, mode in zip(source.images, modes, strict=True):
        if not mode:
            where = image["sem_seg_file_name"]
            source.faults.append(Fault("unreadable mask", where, image["file_name"]))
    source.images = [image for image, mode in zip(source.images, modes, strict=True) if mode]
    reading = _reading(source, classes, masks, set(modes))
    source.classes = reading.classes
    indices = reading.values == tuple(range(len(reading.classes)))
    if not indices or set(modes) - {"L", ""} or source.ignore_label != IGNORE:
        _use_copies(source, reading)


def _reading(
    source: Source, classes: ClassList | None, masks: Sequence[Path], modes: set[str]
) -> _Reading:
    coloured = bool(modes & {"RGB", "RGBA", "CMYK"})
    if classes is not None:
        values = classes.colours if coloured else classes.ids
        if values is not None:
            return _Reading(classes.names, values, coloured)
    found = _values(masks, coloured)
    if len(found) > _MOST:
        raise DataError(
            f"{source.path}: the masks hold {len(found)} different values, too many for classes. "
            "Are these photos, or masks saved as JPEG? Save them as PNG."
        )
    if classes is not None and coloured and len(classes.names) == len(found):
        raise DataError(
            f"{source.path}: the masks hold colours, and {classes.path} names classes without "
            "colours. Add them: a classes.csv with the columns name,r,g,b."
        )
    return _guess(source, found, coloured)


def _guess(source: Source, found: list[int], coloured: bool) -> _Reading:
    """Names for values that nobody explains."""
    if coloured:
        source.notes.append("no list of classes: each colour of the masks is one")
        return _Reading(tuple(f"#{value:06x}" for value in found), tuple(found), True)
    if len(found) == 2 and found[0] == 0 and found[1] in (1, IGNORE):
        source.notes.append(f"masks of two values: 0 is background, {found[1]} foreground")
        return _Reading(("background", "foreground"), tuple(found), False)
    most = max((value for value in found if value != source.ignore_label), default=0)
    source.notes.append(
        "no list of classes (classes.txt): classes are named by their value; "
        f"{source.ignore_label} is no class"
    )
    return _Reading(tuple(f"class_{n}" for n in range(most + 1)), tuple(range(most + 1)), False)


def _use_copies(source: Source, reading: _Reading) -> None:
    files = [Path(image["sem_seg_file_name"]) for image in source.images]
    state = [(str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files]
    key = repr((_VERSION, state, reading, source.ignore_label))
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = cache_folder() / "masks" / f"{source.path.stem}-{digest}"

    def fill(part: Path) -> None:
        for number, file in enumerate(files):
            indices = _indices(_pixels(file, reading.coloured), reading, source.ignore_label)
            Image.fromarray(indices).save(part / f"{number}.png")

    cached_folder(folder, fill)
    for number, image in enumerate(source.images):
        image["sem_seg_file_name"] = str(folder / f"{number}.png")
    source.ignore_label = IGNORE


def _indices(pixels: NDArray, reading: _Reading, ignore: int) -> NDArray[np.uint8]:
    out = np.full(pixels.shape, IGNORE, dtype=np.uint8)
    for index, value in enumerate(reading.values):
        if reading.coloured or value != ignore or value == IGNORE:
            out[pixels == value] = index
    return out


def _values(masks: Sequence[Path], coloured: bool) -> list[int]:
    """All values of all masks that can be read, ascending."""
    found: set[int] = set()
    for mask in masks:
        if _mode(mask):
            found.update(np.unique(_pixels(mask, coloured)).tolist())
        if len(found) > _MOST:
            break
    return sorted(found)


def _pixels(mask: Path, coloured: bool) -> NDArray:
    """(H, W) values, or colours as 0xRRGGBB."""
    with Image.open(mask) as image:
        if not coloured:
            return np.asarray(image).astype(np.int64)
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), dtype=np.int64), 2, 0)
        return (red << 16) + (green << 8) + blue


def _mode(mask: str | Path) -> str:
    try:
        with Image.open(mask) as image:
            image.load()
            return image.mode
    except (OSError, SyntaxError, ValueError):
        return ""
