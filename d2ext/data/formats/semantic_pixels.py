"""Pixel values of semantic masks, and copies of masks that hold class indices."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from d2ext.data.cache import cached_folder, file_state
from d2ext.data.formats.dataset_split import DatasetSplit
from d2ext.data.formats.image_files import UNREADABLE_IMAGE, open_image
from d2ext.data.issues import reading_issue
from d2ext.files import cache_folder

IGNORE = 255
MOST = 254  # classes that 8 bits can encode, in addition to "no class"
_VERSION = 1  # of the masks in the cache
_THREADS = 4
_CHANNELS = ("LA", "RGB", "RGBA", "CMYK")  # Pillow's modes of several channels
_UNKNOWN = 254  # stands for values of no class until they are counted
_OF_TWO = {"background": 0, "class_0": 0, "foreground": 1, "class_1": 1}


@dataclass(frozen=True)
class Reading:
    """How masks are to be read.

    Args:
        classes: names.
        values: that of each class in the masks: grey, or 0xRRGGBB.
        coloured: they are colours.
        cut: grey values from here on are the second of two classes; 0: values are exact.
    """

    classes: tuple[str, ...]
    values: tuple[int, ...]
    coloured: bool
    cut: int = 0

    def table(self, ignore: int) -> NDArray[np.uint8]:
        """Return the class index of each value that a pixel may have."""
        table = np.full(1 << (24 if self.coloured else 16), _UNKNOWN, dtype=np.uint8)
        if not self.coloured:
            table[ignore] = IGNORE
        table[list(self.values)] = np.arange(len(self.values))
        if self.cut:
            table[: self.cut], table[self.cut :] = 0, 1
        return table


def use_indices(dataset: DatasetSplit, reading: Reading, copy: bool) -> None:
    """Tell of pixels of no class; let `dataset` name masks with class indices, 255 for no class.

    Args:
        dataset: its masks can be read.
        reading: what their values mean.
        copy: they cannot be used as they are, whatever their values.
    """
    table = reading.table(dataset.ignore_label)
    files = [Path(image["sem_seg_file_name"]) for image in dataset.images]
    with ThreadPool(_THREADS) as pool:
        unknown = pool.map(lambda file: _unknown(file, table, reading.coloured), files)
    what = "unknown colour" if reading.coloured else "unknown value"
    for image, file, found in zip(dataset.images, files, unknown, strict=True):
        if found is None:
            dataset.issues.append(
                reading_issue("labels-missing", "unreadable mask", str(file), image["file_name"])
            )
        for value, count in found or ():
            name = f"#{value:06x}" if reading.coloured else str(value)
            value_text = f"{name}, {count} pixels"
            issue = reading_issue(
                "labels-unlisted", what, str(file), image["file_name"], value_text
            )
            dataset.issues.append(issue)
    readable = (found is not None for found in unknown)
    dataset.images = [i for i, good in zip(dataset.images, readable, strict=True) if good]
    indices = reading.values == tuple(range(len(reading.classes)))
    if copy or not indices or any(unknown):
        _use_copies(dataset, reading, table)


def class_index(name: str, classes: Sequence[str]) -> int | None:
    """Return the index among `classes` of a class of masks; None where it is none of them.

    Of two classes, background and foreground may have other names: those of masks that nobody
    explains, and of which some hold one of them alone.
    """
    if name in classes:
        return classes.index(name)
    return _OF_TWO.get(name) if len(classes) == 2 else None


def with_mask_classes(dataset: DatasetSplit, classes: Sequence[str]) -> DatasetSplit:
    """Return a copy whose semantic masks hold the indices of `classes`; others are no class."""
    numbers = [class_index(name, classes) for name in dataset.classes]
    images = [dict(image) for image in dataset.images]
    found = replace(dataset, classes=tuple(classes), images=images)
    if numbers == list(range(len(numbers))):
        return found
    values = tuple(_UNKNOWN if number is None else number for number in numbers)
    table = np.full(1 << 16, _UNKNOWN, dtype=np.uint8)
    table[: len(values)] = values
    _use_copies(found, Reading(found.classes, values, False), table)
    return found


def values_of(masks: Sequence[Path], coloured: bool) -> list[int]:
    """Return all values of all masks that can be read, ascending; stop where they are too many."""
    found: set[int] = set()
    for mask in masks:
        with suppress(*UNREADABLE_IMAGE):  # reported where it is used
            found.update(np.unique(_pixels(mask, coloured)).tolist())
        if len(found) > MOST:
            break
    return sorted(found)


def mode_of(mask: str | Path) -> str:
    """Return Pillow's name of the pixels' form; "" where the file cannot be read."""
    try:
        with open_image(mask) as image:
            return image.mode
    except UNREADABLE_IMAGE:
        return ""


def _unknown(mask: Path, table: NDArray[np.uint8], coloured: bool) -> list[tuple[int, int]] | None:
    """Return at most three values that no class has, and their pixels; None: unreadable."""
    try:
        pixels = _pixels(mask, coloured)
    except UNREADABLE_IMAGE:
        return None
    wrong = pixels[table[pixels] == _UNKNOWN]
    values, counts = np.unique(wrong, return_counts=True)
    return list(zip(values.tolist(), counts.tolist(), strict=True))[:3]


def _use_copies(dataset: DatasetSplit, reading: Reading, table: NDArray[np.uint8]) -> None:
    files = [Path(image["sem_seg_file_name"]) for image in dataset.images]
    state = [file_state(file) for file in files]
    key = repr((_VERSION, state, reading, dataset.ignore_label))
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = cache_folder() / "masks" / f"{dataset.path.stem}-{digest}"
    indices = np.where(table == _UNKNOWN, np.uint8(IGNORE), table)

    def fill(part: Path) -> None:
        for number, file in enumerate(files):
            Image.fromarray(indices[_pixels(file, reading.coloured)]).save(part / f"{number}.png")

    cached_folder(folder, fill)
    for number, image in enumerate(dataset.images):
        image["sem_seg_file_name"] = str(folder / f"{number}.png")
    dataset.ignore_label = IGNORE


def _pixels(mask: Path, coloured: bool) -> NDArray[np.uint32]:
    """Return (H, W) values, or colours as 0xRRGGBB; values above 65535 count as that."""
    with open_image(mask) as image:
        if not coloured:
            grey = image.convert("L") if image.mode in _CHANNELS else image
            return np.clip(np.asarray(grey), 0, 0xFFFF).astype(np.uint32)
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), dtype=np.uint32), 2, 0)
        return (red << 16) + (green << 8) + blue
