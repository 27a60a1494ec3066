"""Label image checks: semantic masks, and lists of classes with colours."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from d2ext.data.box_validity import Floats
from d2ext.data.checks.classes import comparable_name
from d2ext.data.checks.context import CheckContext
from d2ext.data.checks.pairs import Integers
from d2ext.data.image_info import LabelInfo, read_label_info
from d2ext.data.parallel import map_files
from d2ext.files import read_regular

_MUCH = 0.01  # share of ignored pixels worth a note
_RARE = 0.001  # share of all pixels
_LARGEST = 1 << 20  # bytes of a JSON file that may be a list of classes


def check_label_images(context: CheckContext) -> None:
    """Compare semantic masks with images and classes, and count the pixels of each class."""
    if context.split.task != "semantic":
        return
    files = [item["sem_seg_file_name"] for item in context.images]
    bar = "label images" if context.progress else ""
    infos = map_files(read_label_info, files, progress=bar)
    totals = np.zeros(len(context.split.classes) or 1, dtype=np.int64)
    ignored = np.zeros(len(context.images))
    for number, file in enumerate(files):
        info = infos[file]
        if info.problem:
            detail = f"{context.images[number]['annotated_in']}: {info.detail}"
            context.add_image(info.problem, number, detail)
        else:
            compare_size(context, number, context.images[number]["annotated_in"], info.size)
            ignored[number] = _count_pixels(context, info, totals)
    _check_ignored(context, ignored)
    for name, count in zip(context.split.classes, totals.tolist(), strict=False):
        _check_pixel_share(context, name, count, max(1, int(totals.sum())))


def compare_size(context: CheckContext, number: int, file: str, size: tuple[int, int]) -> None:
    """Report a label image of another size (width, height) than its image."""
    width, height = context.images[number]["width"], context.images[number]["height"]
    if size != (width, height):
        detail = f"{file}: {size[0]} x {size[1]}, the image {width} x {height}"
        context.add_image("labels-size", number, detail)


def _count_pixels(context: CheckContext, info: LabelInfo, totals: Integers) -> float:
    """Add the pixels of each class to (classes,) `totals`; return the share of ignored ones."""
    ignored = 0
    for value, count in zip(info.values, info.counts, strict=True):
        # Other values are labels-unlisted, which the reader has reported.
        if value == context.split.ignore_label:
            ignored = count
        elif 0 <= value < len(context.split.classes):
            totals[value] += count
    return ignored / max(1, sum(info.counts))


def _check_ignored(context: CheckContext, ignored: Floats) -> None:
    for number in np.flatnonzero(ignored == 1).tolist():
        detail = f"{context.images[number]['annotated_in']}: every pixel"
        context.add_image("labels-ignored", number, detail)
    for number in np.flatnonzero((ignored < 1) & (ignored > _MUCH)).tolist():
        detail = f"{context.images[number]['annotated_in']}: {ignored[number]:.1%} of the pixels"
        context.add_image("labels-much-ignored", number, detail)


def _check_pixel_share(context: CheckContext, name: str, count: int, total: int) -> None:
    where = str(context.split.path)
    if count == 0:
        context.add("class-unused", where, f"{name!r}: no pixel")
    elif count < _RARE * total:
        context.add("class-rare", where, f"{name!r}: {count / total:.3%} of the pixels")


def check_class_colours(context: CheckContext) -> None:
    """Compare the lists of classes around semantic masks; the first that is found is right."""
    if context.split.task != "semantic":
        return
    known: dict[str, tuple[str, str]] = {}  # comparable name -> colour and file
    reported: set[tuple[str, str]] = set()
    for file in _class_lists(context.split.path):
        for name, colour in _colours_in(file):
            first, where = known.setdefault(comparable_name(name), (colour, str(file)))
            if first != colour and (name, colour) not in reported:
                reported.add((name, colour))
                detail = f"{name!r} is {colour}, in {where} {first}"
                context.add("class-colours", str(file), detail)


def _class_lists(path: Path) -> Iterator[Path]:
    """Yield small JSON files in the folder of a data set and around it, the innermost first."""
    folder = path if path.is_dir() else path.parent
    around = (folder, folder.parent, folder.parent.parent)
    for base in (place for parent in around for place in (parent, parent / "annotations")):
        for file in sorted(base.glob("*.json")):
            if os.path.isfile(file) and file.stat().st_size <= _LARGEST:
                yield file


def _colours_in(file: Path) -> Iterator[tuple[str, str]]:
    """Yield name and colour of the classes that a JSON file lists; none where it is another."""
    try:
        document = json.loads(read_regular(file))
    except (OSError, ValueError, RecursionError):
        return
    items = document if isinstance(document, list) else []
    if isinstance(document, dict):
        items = document.get("categories") or document.get("classes") or []
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict):
            name, colour = item.get("name") or item.get("title"), _hex(item.get("color"))
            if isinstance(name, str) and colour:
                yield name, colour


def _hex(value: Any) -> str:
    if isinstance(value, str) and len(value.lstrip("#")) == 6:
        return f"#{value.lstrip('#').lower()}"
    if isinstance(value, list) and len(value) == 3 and all(isinstance(n, int) for n in value):
        return "#{:02x}{:02x}{:02x}".format(*value)
    return ""
