"""CSV: a line per box, `image,xmin,ymin,xmax,ymax,label`, in any order or without a header.

The header may also name x, y, w, h, a bbox of these four in one cell, or run lengths of a mask.
Corners are edges in pixels; where no number of the file is above 1 they are shares of the image.
A line with a file name and nothing else is an image without objects.
"""

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from d2ext.data.formats.dataset_split import DatasetSplit, Item, number_classes
from d2ext.data.formats.image_files import (
    ImageIndex,
    child,
    files_in,
    image_size,
    split_folders,
    split_of,
)
from d2ext.data.formats.outlines import mask_object
from d2ext.data.formats.table_columns import Columns, cell, find_columns
from d2ext.data.formats.text_files import csv_errors, read_text
from d2ext.data.formats.values import as_numbers, as_size
from d2ext.data.formats.via import is_via
from d2ext.data.issues import reading_issue
from d2ext.errors import DataError
from detectron2.structures import BoxMode

FORMAT = "CSV"
_SUFFIXES = (".csv", ".tsv")
_HEAD = 8192  # bytes that show the columns
_SEPARATOR = re.compile(r"sep=([,;\t])\r?\n", re.IGNORECASE)  # Excel's first line
_SHARES = 1.5  # greater numbers cannot be meant as shares of the image's size


@dataclass(frozen=True)
class TableSplit:
    """A table and the folder of images that was named."""

    path: Path
    split: str
    images: Path | None


def find(path: Path, images: Path | None) -> dict[str, TableSplit]:
    """Find the splits of a data set in tables at `path`; {} if it is something else."""
    if path.is_file():
        known = path.suffix.lower() in _SUFFIXES and not is_via(path)
        return {"": TableSplit(path, split_of(path.stem), images)} if known else {}
    files = [file for file in files_in(path, *_SUFFIXES) if _has_boxes(file) and not is_via(file)]
    by_split = {split_of(file.stem): file for file in files}
    if len(files) == 1:
        return {"": TableSplit(files[0], split_of(files[0].stem) or split_of(path.name), images)}
    if files and len(by_split) == len(files) and "" not in by_split:
        splits = [split for split in ("train", "val", "test") if split in by_split]
        return {split: TableSplit(by_split[split], split, images) for split in splits}
    inside = {split: find(folder, images) for split, folder in split_folders(path).items()}
    return {split: TableSplit(p[""].path, split, images) for split, p in inside.items() if "" in p}


def load(part: TableSplit) -> DatasetSplit:
    """Read a table.

    Raises:
        DataError: it is no table of boxes, or none of its images is found.
    """
    dataset = DatasetSplit(FORMAT, part.path, part.split, "boxes", (), [])
    text = read_text(part.path, dataset.encodings)
    rows = _rows(part.path, text)
    columns = replace(find_columns(part.path, rows), decimal_comma=_delimiter(text) != ",")
    dataset.notes += filter(None, [columns.note])
    places = _image_folders(part)
    index = ImageIndex(places)
    images: dict[str, Item | None] = {}
    start = int(columns.has_header)
    scale = _scale(rows[start:], columns)
    if scale == "shares":
        dataset.notes.append("no coordinate is above 1: they are shares of the image's size")
    without_box = 0
    for number, row in enumerate(rows[start:], start=start + 1):
        if not row:
            continue
        name = columns.name(row)
        if name not in images:
            images[name] = _image(dataset, name, row, columns, index, number)
        image = images[name]
        if columns.is_empty(row):
            without_box += bool(columns.label is not None and columns.category(row))
        elif image is not None:
            _add(dataset, image, row, columns, number, scale)
    if without_box:
        dataset.notes.append(f"{without_box} rows name a class without a box: no objects")
    if images and not any(os.path.isfile(i["file_name"]) for i in dataset.images):
        raise DataError(
            f"{part.path}: its images, such as {next(iter(images))}, are in none of "
            f"{', '.join(map(str, places))}. Name their folder: {part.path}:IMAGES."
        )
    dataset.classes = number_classes(dataset.images)
    dataset.task = "masks" if columns.shape == "runs" else "boxes"
    return dataset


def _has_boxes(file: Path) -> bool:
    try:
        find_columns(file, _rows(file, read_text(file, head=_HEAD)))
    except DataError:
        return False
    return True


def _rows(path: Path, text: str) -> list[list[str]]:
    """Return all rows, cells stripped; blank lines are empty lists, to keep line numbers.

    The header behind Excel's first line "sep=;" moves to the place of that.
    """
    rows = csv.reader(io.StringIO(text), delimiter=_delimiter(text), skipinitialspace=True)
    with csv_errors(path):
        found = [[cell.strip() for cell in row] for row in rows]
    if len(found) > 1 and _SEPARATOR.match(text):
        found[0], found[1] = found[1], []
    return found


def _delimiter(text: str) -> str:
    if named := _SEPARATOR.match(text):
        return named[1]
    return max(",;\t", key=text.split("\n", 1)[0].count)


def _scale(rows: Sequence[Sequence[str]], columns: Columns) -> str:
    if columns.shape == "runs":
        return "pixels"
    most = max((max(numbers) for row in rows if (numbers := columns.numbers(row))), default=None)
    return "shares" if most is not None and most <= _SHARES else "pixels"


def _image_folders(part: TableSplit) -> list[Path]:
    if part.images is not None:
        return [part.images]
    here = part.path.parent
    places = []
    for base in (here, here.parent):
        if (folder := child(base, "images", "imgs", "img", "JPEGImages")) is not None:
            same = split_folders(folder).get(part.split)
            places += [same] if same else []
            places.append(folder)
    same = split_folders(here).get(part.split)
    return [here, *([same] if same else []), *places]


def _image(
    dataset: DatasetSplit,
    name: str,
    row: list[str],
    columns: Columns,
    index: ImageIndex,
    line: int,
) -> Item | None:
    path = index.find(name)
    size = as_size([cell(row, place) for place in columns.sizes])
    if size is None and path:
        size = image_size(path)
    if size is None:
        code, what = (
            ("image-unreadable", "unreadable image")
            if path
            else ("image-missing", "image not found")
        )
        where = f"{dataset.path}:{line}"
        dataset.issues.append(reading_issue(code, what, where, str(path or name)))
        return None
    file = path or index.folders[0] / name
    return dataset.add_image(file, size)


def _add(
    dataset: DatasetSplit,
    image: Item,
    row: list[str],
    columns: Columns,
    line: int,
    scale: str,
) -> None:
    category = columns.category(row)
    found = _object(row, columns, image, scale)
    if found is None or not category:
        geometry = "run lengths" if columns.shape == "runs" else "four numbers"
        what = f"row without {geometry}" if category else "row without a label"
        where, text = f"{dataset.path}:{line}", ",".join(row)[:80]
        issue = reading_issue("record-broken", what, where, image["file_name"], text)
        dataset.issues.append(issue)
        return
    image["annotations"].append({**found, "category": category, "iscrowd": 0, "record": line})


def _object(row: list[str], columns: Columns, image: Item, scale: str) -> Item | None:
    width, height = image["width"], image["height"]
    if columns.shape == "runs":
        return _mask(cell(row, columns.box[0]), width, height)
    corners = columns.numbers(row)
    if corners is None:
        return None
    x0, y0, x1, y1 = corners
    if scale == "shares":
        x0, y0, x1, y1 = x0 * width, y0 * height, x1 * width, y1 * height
    return {"bbox": [x0, y0, x1 - x0, y1 - y0], "bbox_mode": BoxMode.XYWH_ABS}


def _mask(text: str, width: int, height: int) -> Item | None:
    """Decode "start length start length ...": pixels column by column, counted from 1."""
    runs = as_numbers(text.split()) or []
    if not runs or len(runs) % 2:
        return None
    pixels = np.zeros(width * height, dtype=bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        if not 1 <= start <= start + length - 1 <= len(pixels):
            return None
        pixels[int(start) - 1 : int(start + length) - 1] = True
    return mask_object(pixels.reshape(width, height).T, 0, 0, (width, height))
