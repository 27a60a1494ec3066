"""Issues of the ids in a COCO file: they are gone once the file has become Detectron2's dicts."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

from d2ext.data.formats.dataset_split import Item
from d2ext.data.issues import Issue


def id_issues(file: str, document: Item, *, objects: bool = True) -> list[Issue]:
    """Find ids that occur twice, annotations without a usable id and gaps in category ids.

    Args:
        file: that the document is from.
        document: has COCO's keys.
        objects: annotations are objects with ids; those of panoptic files are whole images.
    """
    found = _repeated(file, "image-id-twice", document["images"])
    found += _repeated(file, "class-id-twice", document["categories"])
    if objects:
        found += _repeated(file, "object-id-twice", document["annotations"])
        found += _missing(file, document["annotations"])
    return found + _gaps(file, document["categories"])


def _repeated(file: str, code: str, items: Sequence[Item]) -> list[Issue]:
    ids = [item["id"] for item in items if item.get("id") is not None]
    try:
        if len(set(ids)) == len(ids):
            return []
    except TypeError:  # some are lists
        pass
    counts = Counter(map(_hashable, ids))
    found = []
    for value, count in counts.items():
        if count > 1:
            names = [_name(item) for item in items if item.get("id") == value]
            detail = f"{count} times: {', '.join(names[:3])}"
            found.append(Issue(code, f"{file}, id {value}", detail))
    return found


def _missing(file: str, items: Sequence[Item]) -> list[Issue]:
    ids = [item.get("id") for item in items]
    # COCO's evaluation takes the id 0 for "no match".
    wrong = [value for value in ids if not isinstance(value, int) or value < 1]
    if not wrong:
        return []
    detail = f"{len(wrong)} of {len(ids)} annotations, the first has {wrong[0]!r}"
    return [Issue("object-id-missing", file, detail)]


def _gaps(file: str, items: Sequence[Item]) -> list[Issue]:
    ids = sorted(item["id"] for item in items if isinstance(item.get("id"), int))
    if not ids or ids[-1] - ids[0] < len(set(ids)):
        return []
    known = set(ids)  # and not the whole range: a stray id may be of any size
    missing = list(islice((n for n in range(ids[0], ids[-1]) if n not in known), 6))
    shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    detail = f"{len(ids)} ids from {ids[0]} to {ids[-1]}, not {shown}"
    return [Issue("class-id-gap", file, detail)]


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (int, str, float)) else json.dumps(value)


def _name(item: Item) -> str:
    named = item.get("file_name") or item.get("name")
    return str(named) if named else f"image {item.get('image_id')}, bbox {item.get('bbox')}"[:60]
