"""A JSON document in COCO's format: how it is parsed, and what keeps training from using it.

`refusal` speaks of what concerns the whole file: ids, fields, sizes. Single annotations that cannot
be read are another matter, see `d2ext.data.formats.coco`.
"""

import codecs
import gc
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from d2ext.data.formats.dataset_split import Item
from d2ext.data.formats.text_files import decode_file
from d2ext.data.issues import Issue
from d2ext.errors import DataError, NoImagesError
from d2ext.files import read_regular
from d2ext.text import first_few

Document = dict[str, Any]

_REQUIRED = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("image_id", "category_id"),
    "categories": ("id", "name"),
}


def _content(path: Path) -> bytes:
    """Return the bytes of an annotation file.

    Raises:
        DataError: it is missing, a folder or not readable.
    """
    try:
        return read_regular(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such annotation file.{_neighbours(path)}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path}: the annotation file cannot be read ({reason}).") from error


def read_json(path: Path, encodings: Counter[str] | None = None) -> tuple[Any, str, bool]:
    """Parse a JSON file.

    Args:
        encodings: see `d2ext.data.formats.text_files.read_text`.
    Returns:
        The document, a hash of the file's bytes, and `True` if the file is plain ASCII.
    Raises:
        DataError: it cannot be read, is not text or not JSON (with line and column).
    """
    content = _content(path)
    digest, is_ascii = hashlib.sha256(content).hexdigest()[:16], content.isascii()
    try:
        # Of NaN, which Python's json reads, and in older versions of other encodings.
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.decode(content.removeprefix(codecs.BOM_UTF8)), digest, is_ascii
        return json.loads(decode_file(path, content, encodings)), digest, is_ascii
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}:{error.colno}: broken JSON: {error.msg}. Mend that line, or "
            "export the annotations again if the file was cut short."
        ) from error
    except RecursionError as error:
        raise DataError(f"{path}: lists in lists too deep to be annotations.") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise DataError(f"{path}: {error}.") from error


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause Python's garbage collector.

    It would look through all objects again and again while millions of them are made, which doubles
    the time, and there is nothing to collect: JSON has no cycles.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            # Now of the oldest generation, the new objects are not looked through at once.
            gc.freeze()
            gc.unfreeze()
            gc.enable()


def with_coco_keys(path: Path, document: Any) -> Document:
    """Return `document`, which has the keys of a COCO file.

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


def check_not_empty(path: Path, document: Document, sections: Sequence[str]) -> None:
    """Check that sections of a document list something.

    Raises:
        DataError: one of them is empty; NoImagesError: it is "images".
    """
    for section in sections:
        if not document[section]:
            kind = NoImagesError if section == "images" else DataError
            raise kind(
                f'{path}: no annotations to learn from or to compare with: "{section}" is empty. '
                "Name a file that has some."
            )


def refusal(path: Path, document: Document, ids: Sequence[Issue]) -> str:
    """Return why a document cannot be used for training and evaluation; "" if it can.

    Args:
        document: as `with_coco_keys` returns it.
        ids: issues of its ids.
    """
    try:
        # Images without objects are no mistake where they only evaluate.
        check_not_empty(path, document, ("images", "categories"))
        for section in ("images", "categories"):
            check_fields(path, section, document[section])
            _check_ids(path, section, document[section])
        if any(issue.code == "object-id-twice" for issue in ids):
            _check_ids(path, "annotations", document["annotations"])
        _check_sizes(path, document["images"])
    except DataError as error:
        return str(error)
    return ""


def unread_refusal(path: Path, document: Document, unread: Sequence[Item]) -> str:
    """Return why a document is refused for the annotations that could not be read; "" if it is not.

    A few are left out. Where they are half of all, something larger is wrong.
    """
    if not unread or 2 * len(unread) < len(document["annotations"]):
        return ""
    try:
        _check_annotations(path, document, unread)
    except DataError as error:
        return str(error)
    return ""


def check_fields(path: Path, section: str, items: Sequence[Item], total: int | None = None) -> None:
    """Check that items of a section have the fields that COCO's format needs.

    Args:
        total: how many items there are, if `items` are not all of the section.
    Raises:
        DataError: a field is missing or null.
    """
    for key in _REQUIRED[section]:
        without = [_label(item) for item in items if item.get(key) is None]
        if without:
            raise DataError(
                f'{path}: {len(without)} of {total or len(items)} {section} have no "{key}": '
                f"{first_few(without)}. Export the file again with that field, or remove them."
            )


def _check_annotations(path: Path, document: Document, unread: Sequence[Item]) -> None:
    total = len(document["annotations"])
    check_fields(path, "annotations", unread, total)
    _check_references(path, document, unread, "image_id", "images")
    _check_references(path, document, unread, "category_id", "categories")
    missing = [_label(item) for item in unread if item.get("bbox") is None]
    if missing:
        raise DataError(
            f'{path}: {len(missing)} of {total} annotations have no "bbox": {first_few(missing)}. '
            "Export the file again with that field, or remove them."
        )
    wrong = [_label(item) for item in unread]
    raise DataError(
        f'{path}: "bbox" must be four numbers, x, y, width and height in pixels, or five: '
        f"centre, size and angle; {len(wrong)} annotations have something else: "
        f"{first_few(wrong)}. Correct or remove them."
    )


def _label(item: Item) -> str:
    """Name an item by its id, or by what it holds where it has none."""
    return f"id {item['id']}" if "id" in item else json.dumps(item)[:80]


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder {path.parent} either."
    found = sorted(file.name for file in path.parent.glob("*.json"))
    return f" JSON files in that folder: {first_few(found)}."


def _check_ids(path: Path, section: str, items: Sequence[Item]) -> None:
    ids = [item["id"] for item in items if "id" in item]
    kinds = int if section == "categories" else (int, str)
    wrong = [value for value in ids if not isinstance(value, kinds)]
    if wrong and section != "annotations":
        raise DataError(f'{path}: "id" of {section} must be whole numbers: {first_few(wrong)}.')
    ids = [value for value in ids if isinstance(value, kinds)]
    if len(set(ids)) < len(ids):
        twice = [value for value, count in Counter(ids).items() if count > 1]
        raise DataError(
            f"{path}: {len(twice)} ids of {section} stand more than once: {first_few(twice)}. "
            "Give every one its own; merged files need renumbering."
        )


def _check_sizes(path: Path, images: Sequence[Item]) -> None:
    def is_size(value: Any) -> bool:
        return isinstance(value, (int, float)) and 1 <= value < float("inf")

    wrong = [i["id"] for i in images if not (is_size(i["width"]) and is_size(i["height"]))]
    if wrong:
        raise DataError(
            f'{path}: "width" and "height" of images must be positive numbers of pixels; they are '
            f"not for {len(wrong)} images with the ids {first_few(wrong)}."
        )


def _check_references(
    path: Path, document: Document, annotations: Sequence[Item], key: str, section: str
) -> None:
    known = {item["id"] for item in document[section] if "id" in item}
    wrong = [item for item in annotations if not _is_known(item[key], known)]
    if wrong:
        unknown = dict.fromkeys(str(item[key]) for item in wrong)
        raise DataError(
            f'{path}: {len(wrong)} annotations have a "{key}" that is not among the {section}: '
            f"{first_few(unknown)} (annotations {first_few(_label(item) for item in wrong)}). "
            f"Known ids: {first_few(sorted(known, key=str))}. Add the {section} or remove them."
        )


def _is_known(value: Any, known: set[Any]) -> bool:
    return isinstance(value, (int, str)) and value in known
