"""Lists of classes with colours that stand beside semantic masks and contradict each other."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from d2ext.data.checks.classes import plain
from d2ext.data.checks.subject import Subject

_LARGEST = 1 << 20  # bytes of a JSON file that may be a list of classes


def check_colours(subject: Subject) -> None:
    """Compare the lists of classes around a data set; the first that was found is right."""
    known: dict[str, tuple[str, str]] = {}  # plain name -> colour and where it stands
    told: set[tuple[str, str]] = set()
    for file in _files(subject.source.path):
        for name, colour in _colours(file):
            before, where = known.setdefault(plain(name), (colour, str(file)))
            if before != colour and (name, colour) not in told:
                told.add((name, colour))
                detail = f"{name!r} is {colour}, in {where} {before}"
                subject.add("class-colours", str(file), detail)


def _files(path: Path) -> Iterator[Path]:
    """JSON files in the folder of a data set and around it, those deepest inside first."""
    folder = path if path.is_dir() else path.parent
    around = (folder, folder.parent, folder.parent.parent)
    for base in (place for parent in around for place in (parent, parent / "annotations")):
        for file in sorted(base.glob("*.json")):
            if file.stat().st_size <= _LARGEST:
                yield file


def _colours(file: Path) -> Iterator[tuple[str, str]]:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError):
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
