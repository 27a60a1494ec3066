"""Label Studio's JSON and JSON-MIN: a list of tasks with regions in percent of the image.

A rectangle turns about its top left corner, clockwise in degrees.
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import numpy as np
from numpy.typing import NDArray

from d2ext.data.formats.coco_document import read_json
from d2ext.data.formats.dataset_split import DatasetSplit, Item, number_classes
from d2ext.data.formats.image_files import (
    IMAGE_SUFFIXES,
    ImageIndex,
    child,
    files_in,
    image_size,
    split_of,
)
from d2ext.data.formats.outlines import (
    box_object,
    ellipse,
    give_angles,
    mask_object,
    polygon_object,
    rotated_object,
    turn_into_polygons,
)
from d2ext.data.formats.text_files import head_of
from d2ext.data.formats.values import as_numbers, is_true
from d2ext.data.issues import reading_issue
from d2ext.errors import DataError

FORMAT = "Label Studio"
_HEAD = 1 << 16
_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # of files that were uploaded
_KINDS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels")
_MARKS = (*(f'"{kind}"' for kind in _KINDS), '"annotations"', '"completions"')


@dataclass(frozen=True)
class LabelStudioSplit:
    """A file of tasks and the folders where their images may be."""

    path: Path
    split: str
    image_folders: tuple[Path, ...]


def is_label_studio(file: Path) -> bool:
    """Return true for a JSON file that is a list of tasks."""
    head = head_of(file, _HEAD).lstrip()
    return head.startswith("[") and '"' in head and any(mark in head for mark in _MARKS)


def find(path: Path, images: Path | None) -> dict[str, LabelStudioSplit]:
    """Find the tasks of Label Studio at `path`; {} if it is something else."""
    if path.is_file():
        known = path.suffix.lower() == ".json" and is_label_studio(path)
        return {"": _part(path, split_of(path.stem), images)} if known else {}
    files = [file for file in files_in(path, ".json") if is_label_studio(file)]
    by_split = {split_of(file.stem): file for file in files}
    if len(files) == 1:
        return {"": _part(files[0], split_of(files[0].stem), images)}
    if not files or "" in by_split or len(by_split) < len(files):
        return {}
    splits = [split for split in ("train", "val", "test") if split in by_split]
    return {split: _part(by_split[split], split, images) for split in splits}


def load(part: LabelStudioSplit) -> DatasetSplit:
    """Read rectangles, polygons, ellipses and brushes; other regions become issues.

    Raises:
        DataError: the file is broken, or none of its images is found.
    """
    dataset = DatasetSplit(FORMAT, part.path, part.split, "boxes", (), [])
    tasks = read_json(part.path, dataset.encodings)[0]
    index = ImageIndex(part.image_folders)
    names = []
    for number, task in enumerate(tasks, start=1):
        name, regions = _task(task)
        names.append(name)
        record = f"task {task.get('id', number)}" if isinstance(task, dict) else f"task {number}"
        _add_image(dataset, name, regions, record, index)
    if not any(os.path.isfile(image["file_name"]) for image in dataset.images):
        raise DataError(
            f"{part.path}: its images, such as {names[0] if names else 'none'}, are in none of "
            f"{', '.join(map(str, part.image_folders))}. Export them, or name their folder: "
            f"{part.path}:IMAGES."
        )
    dataset.classes = number_classes(dataset.images)
    items = [item for image in dataset.images for item in image["annotations"]]
    if any("segmentation" in item for item in items):
        dataset.task = "masks"
        turn_into_polygons(items)
    elif any(len(item["bbox"]) == 5 for item in items):
        dataset.task = "rotated"
        give_angles(items)
    return dataset


def _part(file: Path, split: str, images: Path | None) -> LabelStudioSplit:
    if images is not None:
        return LabelStudioSplit(file, split, (images,))
    places = []
    for base in (file.parent, file.parent.parent):
        if (folder := child(base, "images", "upload", "media", "data")) is not None:
            places.append(folder)
    return LabelStudioSplit(file, split, (*places, file.parent))


def _task(task: Any) -> tuple[str, list[Any]]:
    """Return the name of a task's image and its regions, of the annotation that was not skipped."""
    if not isinstance(task, dict):
        return "", []
    data = task["data"] if isinstance(task.get("data"), dict) else task
    texts = [value for value in data.values() if isinstance(value, str)]
    name = next((t for t in texts if _file_name(t).lower().endswith(IMAGE_SUFFIXES)), "")
    name = name or str(data.get("image") or "")
    given = task.get("annotations", task.get("completions"))
    if isinstance(given, list):
        done = [a for a in given if isinstance(a, dict) and not is_true(a.get("was_cancelled"))]
        regions = done[-1].get("result") if done else []
    else:  # JSON-MIN has the regions in the task
        lists = [value for value in task.values() if isinstance(value, list)]
        regions = [region for found in lists for region in found]
    return name, regions if isinstance(regions, list) else []


def _file_name(address: str) -> str:
    """Return the file of an upload, of local storage (`?d=folder/a.jpg`) or of an address."""
    parsed = urlparse(address)
    local = parse_qs(parsed.query).get("d")
    return unquote(local[0] if local else parsed.path or address)


def _find_image(address: str, index: ImageIndex) -> Path | None:
    name = _file_name(address)
    base = name.replace("\\", "/").rpartition("/")[2]
    return index.find(name.lstrip("/")) or (index.find(_PREFIX.sub("", base)) if base else None)


def _add_image(
    dataset: DatasetSplit, name: str, regions: list[Any], record: str, index: ImageIndex
) -> None:
    path = _find_image(name, index) if name else None
    size = image_size(path) if path else None
    where = f"{dataset.path}:{record}"
    if path is None or size is None:
        missing = path is None
        code = "image-missing" if missing else "image-unreadable"
        what = "image not found" if missing else "unreadable image"
        dataset.issues.append(reading_issue(code, what, where, str(path or name)))
        return
    image = dataset.add_image(path, size)
    for number, region in enumerate(regions, start=1):
        kind, value = _value(region)
        if kind in ("choices", "textarea", "rating"):
            continue  # of the image, no region
        found = _object(kind, value, region, size)
        label = next(iter(value.get(kind) or value.get("labels") or []), "")
        if found is None or not label:
            what = "region without a label" if found else f"region that cannot be read: {kind}"
            issue = reading_issue("record-broken", what, f"{where}, region {number}", str(path))
            dataset.issues.append(issue)
            continue
        found |= {"category": str(label), "iscrowd": 0, "record": f"{record}, region {number}"}
        image["annotations"].append(found)


def _value(region: Any) -> tuple[str, Item]:
    """Return the type of a region and its values, which JSON-MIN has in the region itself."""
    if not isinstance(region, dict):
        return "unknown", {}
    value = region["value"] if isinstance(region.get("value"), dict) else region
    kind = str(region.get("type") or next((key for key in _KINDS if key in value), "unknown"))
    return kind, value


def _object(kind: str, value: Item, region: Item, size: tuple[int, int]) -> Item | None:
    shape = kind.removesuffix("labels") if kind != "labels" else _shape_of(value)
    width, height = size
    turn = (as_numbers([value.get("rotation") or 0]) or [0.0])[0]
    if shape == "rectangle":
        found = as_numbers([value.get(key) for key in ("x", "y", "width", "height")])
        return None if found is None else _rectangle(_pixels(found, width, height), turn)
    if shape == "ellipse":
        keys = ("x", "y", "radiusX", "radiusY")
        found = as_numbers([value.get(key) for key in keys])
        if found is None:
            return None
        cx, cy, rx, ry = _pixels(found, width, height)
        return polygon_object(ellipse(cx, cy, rx, ry, turn))
    if shape == "polygon":
        try:
            points = [float(n) for point in value.get("points") or () for n in point]
        except (TypeError, ValueError, OverflowError):
            return None
        return polygon_object(_pixels(points, width, height)) if len(points) >= 6 else None
    return _brush(value, region, size) if shape == "brush" else None


def _shape_of(value: Item) -> str:
    if "points" in value:
        return "polygon"
    return "ellipse" if "radiusX" in value else "brush" if "rle" in value else "rectangle"


def _pixels(shares: list[float], width: int, height: int) -> list[float]:
    return [n * (width, height)[i % 2] / 100 for i, n in enumerate(shares)]


def _rectangle(box: list[float], turn: float) -> Item:
    x, y, width, height = box
    if not turn % 360:
        return box_object([x, y, x + width, y + height])
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    cx = x + cos * width / 2 - sin * height / 2
    cy = y + sin * width / 2 + cos * height / 2
    return rotated_object([cx, cy, width, height, (180 - turn) % 360 - 180])


def _brush(value: Item, region: Item, size: tuple[int, int]) -> Item | None:
    """Decode the mask of a brush, the alpha of an RGBA image in Label Studio's run lengths."""
    runs = value.get("rle")
    sides = [region.get(key, value.get(key)) for key in ("original_width", "original_height")]
    if sides != list(size) or not isinstance(runs, list):
        return None
    try:
        values = decode_runs(bytes(runs))
    except (ValueError, TypeError, IndexError):
        return None
    if len(values) != 4 * size[0] * size[1]:
        return None
    return mask_object(values.reshape(size[1], size[0], 4)[..., 3] > 0, 0, 0, size)


def decode_runs(content: bytes) -> NDArray[np.uint8]:
    """Decode Label Studio's run lengths, a stream of bits, the highest of each byte first.

    32 bits count the values, 5 hold the bits of a value less 1, four times 4 the bits of a length
    less 1. Then come runs: 1 bit says whether one value repeats, 2 which of the four lengths is
    used, then the length less 1 and one value, or as many values as the length says.

    Raises:
        IndexError: the stream ends early.
    """
    bits = _Bits(content)
    count, width = bits.take(32), bits.take(5) + 1
    lengths = [bits.take(4) + 1 for _ in range(4)]
    values = np.zeros(count if count <= len(content) << 16 else 0, np.uint8)
    position = 0
    while position < len(values):
        repeats = bits.take(1)
        end = position + 1 + bits.take(lengths[bits.take(2)])
        if repeats:
            values[position:end] = bits.take(width)
        else:
            values[position:end] = [bits.take(width) for _ in range(end - position)][
                : len(values) - position
            ]
        position = end
    return values


class _Bits:
    """Reads numbers of some bits from bytes."""

    def __init__(self, content: bytes) -> None:
        self.bits = np.unpackbits(np.frombuffer(content, np.uint8)).tolist()
        self.position = 0

    def take(self, count: int) -> int:
        """Return the number in the next bits."""
        end = self.position + count
        if end > len(self.bits):
            raise IndexError("the run lengths end early")
        found = 0
        for bit in self.bits[self.position : end]:
            found = found << 1 | bit
        self.position = end
        return found
