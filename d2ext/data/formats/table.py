"""CSV: a line a box, `image,xmin,ymin,xmax,ymax,label`, with a header in any order or without one.

Corners are edges in pixels; where no number of the file is above 1 they are shares of the image.
A line with a file name and nothing else is an image without objects.
"""

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2ext.data.formats.dataset_split import DatasetSplit, Item, number_classes
from d2ext.data.formats.image_files import (
    IMAGE_SUFFIXES,
    ImageIndex,
    child,
    files_in,
    image_size,
    split_folders,
    split_of,
)
from d2ext.data.issues import reading_issue
from d2ext.errors import DataError
from d2ext.text import first_few
from detectron2.structures import BoxMode

FORMAT = "CSV"
_COLUMNS = {
    "image": ("image", "filename", "file_name", "file", "image_path", "path", "img", "image_name"),
    "xmin": ("xmin", "x_min", "x1", "left", "bbox_xmin"),
    "ymin": ("ymin", "y_min", "y1", "top", "bbox_ymin"),
    "xmax": ("xmax", "x_max", "x2", "right", "bbox_xmax"),
    "ymax": ("ymax", "y_max", "y2", "bottom", "bbox_ymax"),
    "label": ("label", "class", "class_name", "name", "category", "labelname", "label_name"),
}
_IDS = {"image": ("image_id", "imageid", "id"), "label": ("class_id", "category_id")}
_SIZES = {"width": ("width", "image_width"), "height": ("height", "image_height")}
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_SUFFIXES = (".csv", ".tsv")
_HEAD = 8192  # bytes that show the columns


@dataclass(frozen=True)
class TableSplit:
    """A table and the folder of images that was named."""

    path: Path
    split: str
    images: Path | None


def find(path: Path, images: Path | None) -> dict[str, TableSplit]:
    """Find the splits of a data set in tables at `path`; {} if it is something else."""
    if path.is_file():
        known = path.suffix.lower() in _SUFFIXES
        return {"": TableSplit(path, split_of(path.stem), images)} if known else {}
    files = [file for file in files_in(path, *_SUFFIXES) if _has_boxes(file)]
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
    rows, encoding = _rows(part.path)
    columns, start = _columns(part.path, rows)
    dataset = DatasetSplit(FORMAT, part.path, part.split, "boxes", (), [])
    if encoding not in ("UTF-8", "UTF-16"):
        dataset.notes.append(f"no UTF-8: read as {encoding}, as Excel saves on Windows")
    places = _image_folders(part)
    index = ImageIndex(places)
    images: dict[str, Item | None] = {}
    scale = _scale(rows[start:], columns)
    if scale == "shares":
        dataset.notes.append("no coordinate is above 1: they are shares of the image's size")
    for number, row in enumerate(rows[start:], start=start + 1):
        if not row:
            continue
        name = _cell(row, columns, "image")
        if name not in images:
            images[name] = _image(dataset, name, row, columns, index, number)
        image = images[name]
        if image is not None:
            _add(dataset, image, row, columns, number, scale)
    if images and not any(Path(i["file_name"]).is_file() for i in dataset.images):
        raise DataError(
            f"{part.path}: its images, such as {next(iter(images))}, are in none of "
            f"{', '.join(map(str, places))}. Name their folder: {part.path}:IMAGES."
        )
    dataset.classes = number_classes(dataset.images)
    return dataset


def _has_boxes(file: Path) -> bool:
    try:
        _columns(file, _rows(file, head=True)[0])
    except DataError:
        return False
    return True


def _rows(file: Path, head: bool = False) -> tuple[list[list[str]], str]:
    """All rows, cells stripped; blank lines are empty lists, so that numbers are those of lines."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_HEAD if head else -1)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}).") from error
    text, encoding = _decode(file, content, head)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    return [[cell.strip() for cell in row] for row in rows], encoding


def _decode(file: Path, content: bytes, head: bool) -> tuple[str, str]:
    """Decode a table; return its text and the name of the encoding.

    Raises:
        DataError: it has none of the encodings that spreadsheets save.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "ignore" if head else "replace"), "UTF-16"
    for encoding in ("UTF-8", "cp1252"):
        try:
            decoder = codecs.getincrementaldecoder(encoding)()
            text = decoder.decode(content, final=not head)  # the head may end within a character
        except UnicodeDecodeError:
            continue
        return text.removeprefix("\ufeff"), encoding
    raise DataError(f"{file}: neither UTF-8 text nor cp1252. Save the file as UTF-8.")


def _columns(file: Path, rows: Sequence[Sequence[str]]) -> tuple[dict[str, int], int]:
    """Where each column stands, and the first row with data."""
    first = next(iter(rows), [])
    head = [cell.lower().replace(" ", "_") for cell in first]
    found = {}
    for key, spellings in (_COLUMNS | _SIZES).items():
        names = (*spellings, *_IDS.get(key, ()))
        place = next((head.index(name) for name in names if name in head), None)
        if place is not None:
            found[key] = place
    if all(key in found for key in _COLUMNS):
        return found, 1
    if len(first) >= 6 and first[0].lower().endswith(IMAGE_SUFFIXES):
        return {key: n for n, key in enumerate(("image", *_CORNERS, "label"))}, 0
    raise DataError(
        f"{file}: a table of boxes has the columns {', '.join(_COLUMNS)}; found "
        f"{first_few(first, 8)}."
    )


def _scale(rows: Sequence[Sequence[str]], columns: dict[str, int]) -> str:
    numbers = [_number(_cell(row, columns, key)) for row in rows for key in _CORNERS if row]
    known = [n for n in numbers if n is not None]
    return "shares" if known and max(known) <= 1 else "pixels"


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
    columns: dict[str, int],
    index: ImageIndex,
    line: int,
) -> Item | None:
    path = index.find(name)
    size: Any = [_number(_cell(row, columns, key)) for key in ("width", "height")]
    if not all(n is not None and n > 0 for n in size):
        size = image_size(path) if path else None
    if size is None:
        code, what = (
            ("image-unreadable", "unreadable image")
            if path
            else ("image-missing", "image not found")
        )
        where = f"{dataset.path}:{line}"
        dataset.issues.append(reading_issue(code, what, where, str(path or name)))
        return None
    image = {
        "file_name": str(path or index.folders[0] / name),
        "image_id": len(dataset.images) + 1,
        "width": int(size[0]),
        "height": int(size[1]),
        "annotated_in": str(dataset.path),
        "annotations": [],
    }
    dataset.images.append(image)
    return image


def _add(
    dataset: DatasetSplit,
    image: Item,
    row: list[str],
    columns: dict[str, int],
    line: int,
    scale: str,
) -> None:
    cells = [_cell(row, columns, key) for key in (*_CORNERS, "label")]
    if not any(cells):
        return
    corners = [_number(cell) for cell in cells[:4]]
    if None in corners or not cells[4]:
        what = "row without four numbers" if cells[4] else "row without a label"
        where, text = f"{dataset.path}:{line}", ",".join(row)[:80]
        issue = reading_issue("record-broken", what, where, image["file_name"], text)
        dataset.issues.append(issue)
        return
    x0, y0, x1, y1 = (n for n in corners if n is not None)
    if scale == "shares":
        width, height = image["width"], image["height"]
        x0, y0, x1, y1 = x0 * width, y0 * height, x1 * width, y1 * height
    image["annotations"].append(
        {
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category": cells[4],
            "iscrowd": 0,
            "record": line,
        }
    )


def _cell(row: Sequence[str], columns: dict[str, int], key: str) -> str:
    place = columns.get(key, len(row))
    return row[place] if place < len(row) else ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
