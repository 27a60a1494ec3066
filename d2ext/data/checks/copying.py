"""Copies of image files: the same bytes, but for what is to be repaired."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from d2ext.errors import DataError

_TAGS = {b"II": b"\x12\x01\x03\x00\x01\x00\x00\x00", b"MM": b"\x01\x12\x00\x03\x00\x00\x00\x01"}
_UPRIGHT = {b"II": b"\x01\x00", b"MM": b"\x00\x01"}


def copy_image(source: Path, target: Path, *, turned: bool, deep: bool) -> Path:
    """Copy a file, and say where to.

    Args:
        turned: set the EXIF orientation of the copy to 1, upright; its pixels stay as they are.
        deep: scale the pixels to 8 bits; the copy is a PNG.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if deep:
        target = target.with_suffix(".png")
        Image.fromarray(_eight_bits(source)).save(target)
    elif turned:
        target.write_bytes(without_orientation(source.read_bytes()))
    else:
        shutil.copyfile(source, target)
    return target


def without_orientation(content: bytes) -> bytes:
    """An image file whose EXIF orientation says upright; nothing else of it changes.

    Raises:
        DataError: no orientation is found where EXIF has it.
    """
    start = content.find(b"Exif\0\0")
    start = start + 6 if start >= 0 else content.find(b"eXIf") + 4
    order = content[start : start + 2]
    place = content.find(_TAGS.get(order, b"\0" * 8), start)
    if order not in _TAGS or place < 0:
        raise DataError("the EXIF orientation is not where it is expected; save the image upright.")
    value = place + 8
    return content[:value] + _UPRIGHT[order] + content[value + 2 :]


def unique_names(paths: Sequence[Path]) -> list[Path]:
    """Names for copies in one folder: paths from where they part, or with a number."""
    taken: set[str] = set()
    found = []
    for path in paths:
        candidate, number = path.name, 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{path.stem}_{number}{path.suffix}"
        taken.add(candidate.casefold())
        found.append(Path(candidate))
    return found


def _eight_bits(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        values = np.asarray(image).astype(np.float64)
    span = np.ptp(values) or 1.0
    return ((values - values.min()) * (255 / span)).astype(np.uint8)
