"""What a COCO file says that reading it hides: ids that stand twice, gaps, areas."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from d2ext.data.checks.subject import Subject

Item = dict[str, Any]


def check_coco_files(subject: Subject) -> None:
    """Read the subject's COCO files once more, for their ids."""
    if not subject.source.format.startswith("COCO"):
        return
    for file in dict.fromkeys(item["annotated_in"] for item in subject.images):
        document = json.loads(Path(file).read_bytes().decode("utf-8-sig"))
        _check_ids(subject, file, "image-id-twice", document["images"])
        _check_ids(subject, file, "class-id-twice", document["categories"])
        if subject.source.task != "panoptic":
            _check_ids(subject, file, "object-id-twice", document["annotations"])
            _check_missing_ids(subject, file, document["annotations"])
        _check_gaps(subject, file, document["categories"])


def _check_ids(subject: Subject, file: str, code: str, items: list[Item]) -> None:
    counts = Counter(_hashable(item.get("id")) for item in items if item.get("id") is not None)
    for value, count in counts.items():
        if count > 1:
            names = [_name(item) for item in items if item.get("id") == value]
            subject.add(code, f"{file}, id {value}", f"{count} times: {', '.join(names[:3])}")


def _check_missing_ids(subject: Subject, file: str, items: list[Item]) -> None:
    wrong = [item for item in items if not isinstance(item.get("id"), int) or item["id"] < 1]
    if wrong:
        first = wrong[0].get("id")
        detail = f"{len(wrong)} of {len(items)} annotations, the first has {first!r}"
        subject.add("object-id-missing", file, detail)


def _check_gaps(subject: Subject, file: str, items: list[Item]) -> None:
    ids = sorted(item["id"] for item in items if isinstance(item.get("id"), int))
    if ids and ids[-1] - ids[0] >= len(set(ids)):
        known = set(ids)  # and not the whole range: a stray id may be of any size
        missing = list(islice((n for n in range(ids[0], ids[-1]) if n not in known), 6))
        shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        subject.add("class-id-gap", file, f"{len(ids)} ids from {ids[0]} to {ids[-1]}, not {shown}")


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (int, str, float)) else json.dumps(value)


def _name(item: Item) -> str:
    told = item.get("file_name") or item.get("name")
    return str(told) if told else f"image {item.get('image_id')}, bbox {item.get('bbox')}"[:60]
