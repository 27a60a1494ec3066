"""What can be wrong with a data set in COCO's format, said in one message before training.

Faults of single boxes are another matter, see `d2ext.data.repair`.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2ext.errors import DataError

Document = dict[str, Any]
Item = dict[str, Any]

_REQUIRED = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
_SHOWN = 5  # examples in a message


def read_text(path: Path) -> bytes:
    """The bytes of an annotation file.

    Raises:
        DataError: it is missing, a folder or not readable.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such annotation file.{_neighbours(path)}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path}: the annotation file cannot be read ({reason}).") from error


def parse(path: Path, content: bytes) -> Document:
    """The document in an annotation file.

    Raises:
        DataError: it is not UTF-8 or not JSON (with line and column), or lacks COCO's keys.
    """
    return with_coco_keys(path, parse_json(path, content))


def parse_json(path: Path, content: bytes) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: it is not UTF-8 or not JSON, with line and column.
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}:{error.colno}: broken JSON: {error.msg}. Mend that line, or "
            "export the annotations again if the file was cut short."
        ) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8 text. Save the file as UTF-8.") from error


def with_coco_keys(path: Path, document: Any) -> Document:
    """`document`, which has the keys of a COCO file.

    Raises:
        DataError: it lacks images, annotations or categories, or they are no lists of objects.
    """
    expected = "COCO's format has images, annotations and categories, each a list of objects"
    if not isinstance(document, dict):
        raise DataError(f"{path}: a JSON {type(document).__name__}, not a COCO file: {expected}.")
    for section in _REQUIRED:
        items = document.get(section)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DataError(
                f'{path}: not a COCO file, "{section}" is missing or no list of objects: '
                f"{expected}. Found: {', '.join(document) or 'nothing'}."
            )
    return document


def check(path: Path, document: Document) -> None:
    """Check ids, fields and references of a document that `parse` returned.

    Raises:
        DataError: no images, annotations or categories; a field is missing or of another type; an
            id stands twice; an annotation points to an unknown image or category.
    """
    for section in ("images", "categories", "annotations"):
        if not document[section]:
            raise DataError(
                f'{path}: no annotations to learn from or to compare with: "{section}" is empty. '
                "Name a file that has some."
            )
        _check_fields(path, section, document[section])
        _check_ids(path, section, document[section])
    _check_sizes(path, document["images"])
    _check_references(path, document, "image_id", "images")
    _check_references(path, document, "category_id", "categories")


def check_images(path: Path, document: Document, folder: Path) -> None:
    """Check that the images of a document exist; folders are listed, no image is opened.

    Raises:
        DataError: the folder, or images in it, are missing (how many and the first five).
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such image folder, named for the annotations in {path}. "
            "Give it after the colon: ANNOTATIONS:IMAGES."
        )
    names = [image["file_name"] for image in document["images"]]
    missing = _missing(folder, names)
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(names)} images named in {path} are missing: "
            f"{examples(missing)}. Add them, or name the folder that the file names start from."
        )


def box_array(path: Path, annotations: Sequence[Item]) -> NDArray[np.float64]:
    """The boxes of all annotations, (N, 4) XYWH pixels; (N, 5) XYWHA where one has an angle.

    Raises:
        DataError: a box is not a list of four or five numbers.
    """
    wrong = [label(item) for item in annotations if not is_box(item["bbox"])]
    if wrong:
        raise DataError(
            f'{path}: "bbox" must be four numbers, x, y, width and height in pixels, or five: '
            f"centre, size and angle; {len(wrong)} annotations have something else: "
            f"{examples(wrong)}. Correct or remove them."
        )
    rotated = any(len(item["bbox"]) == 5 for item in annotations)
    boxes = [_with_angle(item["bbox"]) if rotated else item["bbox"] for item in annotations]
    return np.array(boxes, dtype=np.float64).reshape(len(annotations), 5 if rotated else 4)


def examples(items: Iterable[Any]) -> str:
    """The first five of `items` and how many more there are."""
    items = list(items)
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(str(item) for item in items[:_SHOWN]) + more


def label(item: Item) -> str:
    """How a message names an item: by its id, or by what it says where it has none."""
    return f"id {item['id']}" if "id" in item else json.dumps(item)[:80]


def _neighbours(path: Path) -> str:
    """The JSON files that stand where `path` was looked for."""
    if not path.parent.is_dir():
        return f" There is no folder {path.parent} either."
    found = sorted(file.name for file in path.parent.glob("*.json"))
    return f" JSON files in that folder: {examples(found) or 'none'}."


def _check_fields(path: Path, section: str, items: list[Item]) -> None:
    for key in _REQUIRED[section]:
        without = [label(item) for item in items if item.get(key) is None]
        if without:
            raise DataError(
                f'{path}: {len(without)} of {len(items)} {section} have no "{key}": '
                f"{examples(without)}. Export the file again with that field, or remove them."
            )


def _check_ids(path: Path, section: str, items: list[Item]) -> None:
    ids = [item["id"] for item in items if "id" in item]
    kinds = int if section == "categories" else (int, str)
    wrong = [value for value in ids if not isinstance(value, kinds)]
    if wrong:
        raise DataError(f'{path}: "id" of {section} must be whole numbers: {examples(wrong)}.')
    if len(set(ids)) < len(ids):
        twice = [value for value, count in Counter(ids).items() if count > 1]
        raise DataError(
            f"{path}: {len(twice)} ids of {section} stand more than once: {examples(twice)}. "
            "Give every one its own; merged files need renumbering."
        )


def _check_sizes(path: Path, images: list[Item]) -> None:
    def is_size(value: Any) -> bool:
        return isinstance(value, (int, float)) and 0 < value < float("inf")

    wrong = [i["id"] for i in images if not (is_size(i["width"]) and is_size(i["height"]))]
    if wrong:
        raise DataError(
            f'{path}: "width" and "height" of images must be positive numbers of pixels; they are '
            f"not for {len(wrong)} images with the ids {examples(wrong)}."
        )


def _check_references(path: Path, document: Document, key: str, section: str) -> None:
    known = {item["id"] for item in document[section] if "id" in item}
    wrong = [item for item in document["annotations"] if not _is_known(item[key], known)]
    if wrong:
        unknown = dict.fromkeys(str(item[key]) for item in wrong)
        raise DataError(
            f'{path}: {len(wrong)} annotations have a "{key}" that is not among the {section}: '
            f"{examples(unknown)} (annotations {examples(label(item) for item in wrong)}). "
            f"Known ids: {examples(sorted(known, key=str))}. Add the {section} or remove them."
        )


def _is_known(value: Any, known: set[Any]) -> bool:
    return isinstance(value, (int, str)) and value in known


def is_box(value: Any) -> bool:
    """Whether it is a list of four numbers, or of five for a rotated box."""
    return (
        isinstance(value, list)
        and len(value) in (4, 5)
        and all(isinstance(number, (int, float)) for number in value)
    )


def _with_angle(box: list[float]) -> list[float]:
    if len(box) == 5:
        return box
    x, y, width, height = box
    return [x + width / 2, y + height / 2, width, height, 0.0]


def _missing(folder: Path, names: list[str]) -> list[str]:
    """The names without a file; one listing per folder is far cheaper than one look per file."""
    by_parent: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_parent[os.path.dirname(name)].append(name)
    suspects: list[str] = []
    for parent, inside in by_parent.items():
        found = _listing(folder / parent)
        suspects += [name for name in inside if os.path.basename(name) not in found]
    # Another spelling of an accent or of upper case can still be the same file.
    return [name for name in suspects if not (folder / name).is_file()]


def _listing(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()
