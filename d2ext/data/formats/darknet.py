"""Darknet's list of a data set, `obj.data`, as CVAT exports it for YOLO: lines of `key = value`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from d2ext.data.formats.image_files import read_lines
from d2ext.errors import DataError

_MOST = 1 << 16  # bytes of such a list; other files of this suffix may be large, and no text


def read_darknet(file: Path) -> dict[str, Any]:
    """Translate a Darknet list to the keys of a `data.yaml`; {} if it is something else."""
    if file.stat().st_size > _MOST:
        return {}
    try:
        lines = [line for _, line in read_lines(file)]
    except DataError:
        return {}
    pairs = [line.partition("=") for line in lines]
    given = {key.strip(): value.strip() for key, sign, value in pairs if sign}
    if "names" not in given:
        return {}
    found: dict[str, Any] = {
        split: str(existing(file.parent, given[key]))
        for split, key in (("train", "train"), ("val", "valid"), ("test", "test"))
        if given.get(key)
    }
    names = existing(file.parent, given["names"])
    if os.path.isfile(names):
        found["names"] = [line for _, line in read_lines(names)]
    return found


def existing(folder: Path, entry: str) -> Path:
    """Resolve a path from `folder`, as written or by its last parts: `data/` may be elsewhere."""
    parts = Path(entry.replace("\\", "/")).parts
    return next(filter(os.path.exists, _places(folder, parts)), folder / entry)


def _places(folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    yield folder.joinpath(*parts)
    yield Path(*parts)
    yield from (folder.joinpath(*parts[n:]) for n in range(1, len(parts)))
