"""VGG Image Annotator's own files: a project or its annotations, as JSON or CSV.

The class is an attribute of each region: "class", "label", "name" or the like, or the only one.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2ext.data.formats.coco_document import read_json
from d2ext.data.formats.dataset_split import DatasetSplit, Item, number_classes
from d2ext.data.formats.image_files import (
    ImageIndex,
    child,
    files_in,
    image_size,
    split_folders,
    split_of,
)
from d2ext.data.formats.outlines import box_object, ellipse, polygon_object
from d2ext.data.formats.text_files import head_of, read_text, table_rows
from d2ext.data.formats.values import as_numbers
from d2ext.data.issues import reading_issue
from d2ext.errors import DataError

FORMAT = "VIA"
UNNAMED = "object"  # the class of regions without attributes
_NAMES = ("class", "label", "name", "category", "type", "object", "class_name")
_HEAD = 1 << 16
_CSV = "region_shape_attributes"
_COLUMNS = {"shape_attributes": _CSV, "region_attributes": "region_attributes"}
_MISSING = ("image-missing", "image not found")


@dataclass(frozen=True)
class ViaSplit:
    """A file of VIA and the folders where its images may be."""

    path: Path
    split: str
    image_folders: tuple[Path, ...]


def is_via(file: Path) -> bool:
    """Return true for a JSON or CSV file that VIA wrote, its exports to COCO aside."""
    head = head_of(file, _HEAD)
    if file.suffix.lower() == ".csv":
        return _CSV in head
    names = '"regions"' in head and '"filename"' in head and '"shapes"' not in head
    return names or '"_via_img_metadata"' in head or '"_via_settings"' in head


def find(path: Path, images: Path | None) -> dict[str, ViaSplit]:
    """Find the splits of VIA's files at `path`; {} if it is something else."""
    if path.is_file():
        known = path.suffix.lower() in (".json", ".csv") and is_via(path)
        return {"": _part(path, split_of(path.stem), images)} if known else {}
    files = [file for file in files_in(path, ".json", ".csv") if is_via(file)]
    by_split = {split_of(file.stem): file for file in files}
    if len(files) == 1:
        return {"": _part(files[0], split_of(files[0].stem) or split_of(path.name), images)}
    if files and "" not in by_split and len(by_split) == len(files):
        splits = [split for split in ("train", "val", "test") if split in by_split]
        return {split: _part(by_split[split], split, images) for split in splits}
    inside = {split: find(folder, images) for split, folder in split_folders(path).items()}
    return {split: found[""] for split, found in inside.items() if "" in found}


def load(part: ViaSplit) -> DatasetSplit:
    """Read rectangles, polygons, circles and ellipses; other regions become issues.

    Raises:
        DataError: the file is broken, or none of its images is found.
    """
    dataset = DatasetSplit(FORMAT, part.path, part.split, "boxes", (), [])
    entries = list(_entries(part.path, dataset.encodings))
    key = _class_key(entries)
    index = ImageIndex(part.image_folders)
    for name, regions in entries:
        _add_image(dataset, name, regions, key, index)
    if entries and not any(os.path.isfile(image["file_name"]) for image in dataset.images):
        raise DataError(
            f"{part.path}: its images, such as {entries[0][0]}, are in none of "
            f"{', '.join(map(str, part.image_folders))}. Name their folder: {part.path}:IMAGES."
        )
    items = [item for image in dataset.images for item in image["annotations"]]
    dataset.notes.append(
        f'the class is the attribute "{key}" of each region'
        if key
        else f'regions have no attribute that names a class: all are "{UNNAMED}"'
    )
    dataset.classes = number_classes(dataset.images)
    dataset.task = "masks" if any("segmentation" in item for item in items) else "boxes"
    return dataset


def _part(file: Path, split: str, images: Path | None) -> ViaSplit:
    here = file.parent
    places = [here]
    for base in (here, here.parent):
        if (folder := child(base, "images", "imgs", "JPEGImages", "data")) is not None:
            places.append(folder)
    places += [folder for name, folder in split_folders(here).items() if name == split]
    return ViaSplit(file, split, (images,) if images is not None else tuple(places))


def _entries(file: Path, encodings: Counter[str]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the file name and the regions of each image.

    Raises:
        DataError: the file is broken.
    """
    if file.suffix.lower() == ".csv":
        yield from _rows(file, encodings)
        return
    document = read_json(file, encodings)[0]
    entries = document.get("_via_img_metadata", document) if isinstance(document, dict) else {}
    for entry in entries.values():
        if isinstance(entry, dict) and isinstance(entry.get("filename"), str):
            regions = entry.get("regions") or []
            found = list(regions.values()) if isinstance(regions, dict) else regions
            yield entry["filename"], found if isinstance(found, list) else []


def _rows(file: Path, encodings: Counter[str]) -> Iterator[tuple[str, list[Any]]]:
    regions: dict[str, list[Any]] = {}
    for row in table_rows(file, read_text(file, encodings)):
        name = row.get("filename") or row.get("#filename") or ""
        found = {key: _parsed(row.get(column)) for key, column in _COLUMNS.items()}
        images = regions.setdefault(name, [])
        if found["shape_attributes"]:
            images.append(found)
    yield from ((name, found) for name, found in regions.items() if name)


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text


def _class_key(entries: list[tuple[str, list[Any]]]) -> str:
    """Return the attribute that names classes: a usual name, or the only one that there is."""
    attributes = [_attributes(region) for _, regions in entries for region in regions]
    keys = Counter(key for found in attributes for key, value in found.items() if _name(value))
    usual = [key for name in _NAMES for key in keys if key.lower() == name]
    return usual[0] if usual else next(iter(keys)) if len(keys) == 1 else ""


def _attributes(region: Any) -> dict[str, Any]:
    found = region.get("region_attributes") if isinstance(region, dict) else None
    return found if isinstance(found, dict) else {}


def _name(value: Any) -> str:
    """Return a class name; of checkboxes, {"cat": true}, the one that is set."""
    if isinstance(value, dict):
        chosen = [str(key) for key, is_set in value.items() if is_set]
        return chosen[0] if len(chosen) == 1 else ""
    return "" if value is None else str(value).strip()


def _add_image(
    dataset: DatasetSplit, name: str, regions: list[Any], key: str, index: ImageIndex
) -> None:
    path = index.find(name)
    size = image_size(path) if path else None
    if size is None:
        code, what = ("image-unreadable", "unreadable image") if path else _MISSING
        issue = reading_issue(code, what, str(dataset.path), str(path or name))
        dataset.issues.append(issue)
        return
    image = dataset.add_image(str(path), size)
    for number, region in enumerate(regions, start=1):
        record = f"{name}, region {number}"
        category = _name(_attributes(region).get(key)) if key else UNNAMED
        found, shape = _object(region)
        if found is None or not category:
            what = "region without a class" if found else f"region that is no area: {shape}"
            where = f"{dataset.path}:{record}"
            dataset.issues.append(
                reading_issue("record-broken", what, where, image["file_name"], category)
            )
        else:
            image["annotations"].append(
                {**found, "category": category, "iscrowd": 0, "record": record}
            )


def _object(region: Any) -> tuple[Item | None, str]:
    """Return the box, and the polygon if there is one, with the name of the shape."""
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    if not isinstance(shape, dict):
        return None, "unknown"
    kind = str(shape.get("name"))
    if kind in ("polygon", "polyline"):
        xs, ys = (as_numbers(shape.get(f"all_points_{axis}") or []) for axis in "xy")
        if kind == "polyline" or not xs or not ys or len(xs) != len(ys) or len(xs) < 3:
            return None, kind
        return polygon_object([n for pair in zip(xs, ys, strict=True) for n in pair]), kind
    keys = {"rect": ("x", "y", "width", "height"), "circle": ("cx", "cy", "r")}
    keys["ellipse"] = ("cx", "cy", "rx", "ry")
    numbers = as_numbers([shape.get(name) for name in keys[kind]]) if kind in keys else None
    if numbers is None:
        return None, kind
    if kind == "rect":
        x, y, width, height = numbers
        return box_object([x, y, x + width, y + height]), kind
    cx, cy, rx, ry = *numbers[:2], numbers[2], numbers[-1]
    # VIA stores the angle of an ellipse in radians, clockwise.
    theta = as_numbers([shape.get("theta", 0)]) or [0.0]
    return polygon_object(ellipse(cx, cy, rx, ry, math.degrees(theta[0]))), kind
