"""Names of the classes and keypoints of a YOLO data set, in any way that yaml files have them."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import yaml

from d2ext.config.plain_yaml import parse_yaml
from d2ext.data.formats.image_files import files_in, read_lines
from d2ext.data.formats.keypoint_names import mirror_pairs
from d2ext.data.formats.values import as_numbers
from d2ext.data.formats.yolo_labels import MOST_CLASSES
from d2ext.data.formats.yolo_layout import NAME_FILES, YAML_SUFFIXES, YoloSplit, read_yaml
from d2ext.errors import ConfigError, DataError


def class_names(part: YoloSplit, encodings: Counter[str]) -> list[str] | None:
    names, count = part.config.get("names"), class_count(part.config)
    if isinstance(names, str):
        names = _names_in_text(part, names, count, encodings)
    if isinstance(names, list) and names and all(isinstance(name, dict) for name in names):
        names = {key: name for entry in names for key, name in entry.items()}
    if isinstance(names, dict):
        return _by_index(part, names)
    if isinstance(names, list):
        return [str(name).strip() for name in names]
    if count is not None and count <= MOST_CLASSES:
        return [f"class_{n}" for n in range(count)]
    return None if part.config else _names_in_folders(part, encodings)


def class_count(config: dict[str, Any]) -> int | None:
    count = config.get("nc")
    if isinstance(count, str) and count.strip().isdecimal():
        return int(count)
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def _names_in_text(part: YoloSplit, text: str, count: int | None, encodings: Counter[str]) -> Any:
    """Parse names that are one text: a file of names, a list in quotes, or names with commas."""
    here = part.path.parent if part.path.is_file() else part.path
    if text.strip() and os.path.isfile(here / text.strip()):
        return [line for _, line in read_lines(here / text.strip(), encodings)]
    if text.strip().startswith(("[", "{")):
        try:
            parse_yaml(text, part.path)
            return yaml.load(text, yaml.BaseLoader)
        except (yaml.YAMLError, ConfigError):
            raise DataError(
                f"{part.path}: names must be a list or a mapping of indices: {text!r}."
            ) from None
    names = [name.strip() for name in re.split(r"[,;\n]", text) if name.strip()]
    words = text.split()
    return words if len(names) == 1 and count == len(words) else names


def _by_index(part: YoloSplit, names: dict[Any, Any]) -> list[str]:
    try:
        by_index = {int(key): str(name) for key, name in names.items()}
    except (TypeError, ValueError):
        raise DataError(f"{part.path}: names must be by index, 0: cat: found {names!r}.") from None
    if max(by_index, default=0) >= MOST_CLASSES:
        raise DataError(f"{part.path}: names has the index {max(by_index)}; count them from 0.")
    return [by_index.get(n, f"class_{n}") for n in range(max(by_index, default=-1) + 1)]


def _names_in_folders(part: YoloSplit, encodings: Counter[str]) -> list[str] | None:
    """Return the names in a file of the folder, of one of the two above or of another split."""
    for folder in (part.path, *part.path.parents[:2], *(other.path for other in part.others)):
        for name in NAME_FILES:
            if (folder / name).is_file():
                return [line for _, line in read_lines(folder / name, encodings)]
        for file in files_in(folder, *YAML_SUFFIXES):
            if "names" in (config := read_yaml(file, strict=False)):
                return class_names(YoloSplit(file, part.split, config=config), encodings)
    return None


def keypoint_metadata(config: dict[str, Any], count: int, notes: list[str]) -> dict[str, Any]:
    """Return the names of the keypoints, and which of them change places in a mirrored image.

    Args:
        count: number of keypoints.
        notes: gets a line about a `flip_idx` that is not used.
    """
    flips = as_numbers(config.get("flip_idx") or ()) or []
    names = _point_names(config.get("kpt_names"), count)
    if flips and not _swaps(flips, count):
        notes.append(
            f"flip_idx {config['flip_idx']} does not pair {count} keypoints with each other and "
            "is not used: pairs follow the names"
        )
        flips = []
    pairs = [(names[n], names[int(m)]) for n, m in enumerate(flips) if n < m]
    return {"keypoint_names": names, "keypoint_flip_map": pairs or mirror_pairs(names)}


def _swaps(flips: Sequence[float], count: int) -> bool:
    """Return true for the partner of each of `count` points, itself where it has none."""
    known = set(flips) <= set(range(count)) and len(flips) == count
    return known and all(flips[int(m)] == n for n, m in enumerate(flips))


def _point_names(given: Any, count: int) -> list[str]:
    """Return the names of `kpt_names`, a list or one list per class; else numbered ones."""
    if isinstance(given, dict):
        given = next(iter(given.values()), None)
    if isinstance(given, list) and len({str(name) for name in given}) == count:
        return [str(name) for name in given]
    return [f"point_{n}" for n in range(count)]
