"""Label Studio's JSON and JSON-MIN: a list of tasks with regions in percent of the image.

A rectangle turns about its top left corner, clockwise in degrees.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from d2ext.data.formats.coco_document import read_json
from d2ext.data.formats.dataset_split import DatasetSplit, number_classes
from d2ext.data.formats.image_files import (
    IMAGE_SUFFIXES,
    ImageIndex,
    child,
    files_in,
    image_size,
    split_of,
)
from d2ext.data.formats.label_studio_regions import KINDS, region_object, region_values
from d2ext.data.formats.outlines import give_angles, turn_into_polygons
from d2ext.data.formats.text_files import head_of
from d2ext.data.formats.values import is_true
from d2ext.data.issues import reading_issue
from d2ext.errors import DataError

FORMAT = "Label Studio"
_HEAD = 1 << 16
_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # of files that were uploaded
_MARKS = (*(f'"{kind}"' for kind in KINDS), '"annotations"', '"completions"')


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
    if not any(Path(image["file_name"]).is_file() for image in dataset.images):
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
        kind, value = region_values(region)
        if kind in ("choices", "textarea", "rating"):
            continue  # of the image, no region
        found = region_object(kind, value, region, size)
        label = next(iter(value.get(kind) or value.get("labels") or []), "")
        if found is None or not label:
            what = "region without a label" if found else f"region that cannot be read: {kind}"
            issue = reading_issue("record-broken", what, f"{where}, region {number}", str(path))
            dataset.issues.append(issue)
            continue
        found |= {"category": str(label), "iscrowd": 0, "record": f"{record}, region {number}"}
        image["annotations"].append(found)
