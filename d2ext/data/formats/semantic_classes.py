"""Class lists of semantic masks: names with ids, colours or both."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2ext.data.formats.image_files import child, files_in, read_lines
from d2ext.data.formats.semantic_layout import SemanticSplit
from d2ext.data.formats.text_files import read_text, table_rows
from d2ext.errors import DataError

_NAMES = ("classes.txt", "class_names.txt", "labels.txt", "names.txt", "_classes.txt")
_TABLES = ("class_dict.csv", "classes.csv", "_classes.csv", "labels.csv", "label_colors.csv")
_ADE20K = ("objectInfo150.txt",)
_COLOURS = ("labelmap.txt", "label_colors.txt")


@dataclass(frozen=True)
class ClassList:
    """Classes and their values or colours in masks.

    Args:
        path: where the list was found.
        names: in the order of the ids.
        ids: values of grey masks.
        colours: 0xRRGGBB of coloured masks; None where the list has none.
        ignore: grey value of pixels without a class; None: the data set's own.
    """

    path: Path
    names: tuple[str, ...]
    ids: tuple[int, ...]
    colours: tuple[int, ...] | None
    ignore: int | None = None


def listed_classes(part: SemanticSplit, encodings: Counter[str] | None = None) -> ClassList | None:
    """Find the first list of classes next to or above the masks; None if there is none.

    Args:
        encodings: see `d2ext.data.formats.text_files.read_text`.
    """
    found = _first_list(part)
    if found is not None:
        read_text(found.path, encodings)  # to say which encoding it has
    return found


def _first_list(part: SemanticSplit) -> ClassList | None:
    for folder in dict.fromkeys(_folders(part)):
        for name, read in (
            *((name, _from_names) for name in _NAMES),
            *((name, _from_table) for name in _TABLES),
            *((name, _from_colours) for name in _COLOURS),
            *((name, _from_ade20k) for name in _ADE20K),
        ):
            if (folder / name).is_file() and (found := read(folder / name)) is not None:
                return found
        for file in files_in(folder, ".json"):
            if (found := _from_json(file)) is not None:
                return found
    return None


def of_categories(items: Any, path: Path = Path()) -> ClassList | None:
    """Read COCO's "categories": id, name and perhaps color; None if they are something else."""
    if not isinstance(items, list) or not items:
        return None
    try:
        rows = sorted((int(item["id"]), str(item["name"]), item.get("color")) for item in items)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    colours = [_colour(colour) for _, _, colour in rows]
    known = None if None in colours else tuple(c for c in colours if c is not None)
    return ClassList(path, tuple(r[1] for r in rows), tuple(r[0] for r in rows), known)


def _folders(part: SemanticSplit) -> Iterable[Path]:
    for base in (part.masks, part.path, part.masks.parent, part.masks.parent.parent):
        yield base
        if (folder := child(base, "annotations")) is not None:
            yield folder


def _from_names(file: Path) -> ClassList | None:
    """Read one name per line; numbers in front, as in "0 road" or "1: sky", are ids."""
    lines = [line for _, line in read_lines(file)]
    numbered = [re.match(r"(\d+)\s*[:,;\s]\s*(\S.*)", line) for line in lines]
    if lines and all(numbered):
        pairs = sorted((int(found[1]), found[2].strip()) for found in numbered if found)
        return ClassList(file, tuple(n for _, n in pairs), tuple(i for i, _ in pairs), None)
    return ClassList(file, tuple(lines), tuple(range(len(lines))), None) if lines else None


def _from_table(file: Path) -> ClassList | None:
    """Read a table with a column of names, and r, g, b or a pixel value."""
    text = "\n".join(line for _, line in read_lines(file))
    rows = list(table_rows(file, text))
    rows = [{str(k).strip().lower(): str(v).strip() for k, v in row.items()} for row in rows]
    if not rows:
        return None
    column = next((c for c in ("name", "class", "class_name", "label") if c in rows[0]), None)
    if column is None:
        return None
    names = tuple(row[column] for row in rows)
    ids = tuple(range(len(rows)))
    value = next((c for c in ("pixel value", "pixel_value", "value", "id") if c in rows[0]), None)
    try:
        if value is not None:
            ids = tuple(int(row[value]) for row in rows)
        if "r" not in rows[0]:
            return ClassList(file, names, ids, None)
        colours = [[int(row[c]) for c in ("r", "g", "b")] for row in rows]
    except (KeyError, ValueError):
        return None
    return ClassList(file, names, ids, _packed(colours))


def _from_colours(file: Path) -> ClassList | None:
    """Parse lines such as "road:128,64,128::" (CVAT) or "128 64 128 road"."""
    found = []
    for _, line in read_lines(file):
        numbers = [int(n) for n in re.findall(r"\d+", line)[:3]]
        name = re.sub(r"^[\s\d,]+", "", line).split(":")[0].strip()
        if not line.startswith("#") and len(numbers) == 3 and name:
            found.append((name, numbers))
    if not found:
        return None
    names, colours = zip(*found, strict=True)
    return ClassList(file, names, tuple(range(len(found))), _packed(colours))


def _from_ade20k(file: Path) -> ClassList | None:
    """Read ADE20K's table: Idx, Ratio, Train, Val, Stuff, Name; masks have 0 for other objects."""
    rows = [line.split("\t") for _, line in read_lines(file)]
    found = [(int(row[0]), row[-1]) for row in rows if row[0].strip().isdigit()]
    if not found:
        return None
    names = tuple(name.split(",")[0].strip() for _, name in found)  # synonyms follow
    return ClassList(file, names, tuple(number for number, _ in found), None, ignore=0)


def _from_json(file: Path) -> ClassList | None:
    try:
        document = json.loads(read_text(file))
    except (DataError, ValueError, RecursionError):
        return None
    if isinstance(document, dict):
        return of_categories(document.get("categories"), file)
    return None


def _packed(colours: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple((red << 16) + (green << 8) + blue for red, green, blue in colours)


def _colour(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"#?[0-9a-fA-F]{6}", value):
        return int(value.lstrip("#"), 16)
    if isinstance(value, (list, tuple)) and len(value) >= 3:
        return _packed([value[:3]])[0]
    return None
