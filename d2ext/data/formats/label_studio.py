"""Label Studio's JSON and JSON-MIN: a list of tasks with regions in percent of the image.

A rectangle turns about its top left corner, clockwise in degrees. Points are keypoints of the
region that is their parent or that they relate to.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

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
from d2ext.data.formats.label_studio_points import (
    POINT_KINDS,
    RELATION,
    add_region_point,
    relations_of,
)
from d2ext.data.formats.label_studio_regions import KINDS, region_object, region_values
from d2ext.data.formats.outlines import settle_task
from d2ext.data.formats.single_points import point_names, turn_into_keypoints
from d2ext.data.formats.text_files import head_of
from d2ext.data.formats.values import is_true
from d2ext.data.issues import reading_issue
from d2ext.errors import DataError

FORMAT = "Label Studio"
_HEAD = 1 << 16
_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # of files that were uploaded
_SHAPES = ("rectangle", "polygon", "ellipse", "brush", "keypoint")
_OF_IMAGE = ("choices", "textarea", "rating", "number", "taxonomy")  # results without a region
# What notes say, each after a number.
_OPEN = "tasks have no annotation, or it was skipped: their images are left out"
_SEVERAL = "tasks have several annotations: the last one counts"
_TURNED = "regions were drawn on turned images (image_rotation): look whether they fit"
_MORE = "regions have several labels: the first one counts"
_MARKS = (*(f'"{kind}"' for kind in KINDS), '"annotations"', '"completions"')


@dataclass(frozen=True)
class LabelStudioSplit:
    """A file of tasks and the folders where their images may be."""

    path: Path
    split: str
    image_folders: tuple[Path, ...]
    others: tuple[Path, ...] = ()  # files of all splits: one list of keypoints holds for them


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
    others = tuple(by_split[split] for split in splits)
    return {
        split: replace(_part(by_split[split], split, images), others=others) for split in splits
    }


def load(part: LabelStudioSplit) -> DatasetSplit:
    """Read rectangles, polygons, ellipses, brushes and keypoints; other regions become issues.

    Raises:
        DataError: the file is broken, or none of its images is found.
    """
    dataset = _read(part)
    files = part.others or (part.path,)
    # Reading all splits once more takes time, which only keypoints need.
    pointed = any('"keypoint' in head_of(file, -1) for file in files)
    splits = (dataset if file == part.path else _read(replace(part, path=file)) for file in files)
    names = point_names(splits) if pointed else []
    turn_into_keypoints(dataset, names)
    dataset.classes = number_classes(dataset.images)
    items = [item for image in dataset.images for item in image["annotations"]]
    dataset.task = settle_task(items, points=bool(names))
    return dataset


def _read(part: LabelStudioSplit) -> DatasetSplit:
    """Read the objects of a file, whose points are not yet keypoints."""
    dataset = DatasetSplit(FORMAT, part.path, part.split, "boxes", (), [])
    tasks = read_json(part.path, dataset.encodings)[0]
    index = ImageIndex(part.image_folders)
    names, said = [], Counter[str]()
    for number, task in enumerate(tasks, start=1):
        name, regions = _task(task, said)
        names.append(name)
        record = f"task {task.get('id', number)}" if isinstance(task, dict) else f"task {number}"
        if regions is not None:
            _add_image(dataset, name, _merged(regions, said), record, index)
    dataset.notes += [f"{count} {what}" for what, count in said.items()]
    if said[_OPEN] == len(tasks):
        raise DataError(f"{part.path}: none of its {len(tasks)} tasks is annotated.")
    if not any(os.path.isfile(image["file_name"]) for image in dataset.images):
        raise DataError(
            f"{part.path}: its images, such as {names[0] if names else 'none'}, are in none of "
            f"{', '.join(map(str, part.image_folders))}. Export them, or name their folder: "
            f"{part.path}:IMAGES."
        )
    return dataset


def _part(file: Path, split: str, images: Path | None) -> LabelStudioSplit:
    if images is not None:
        return LabelStudioSplit(file, split, (images,))
    places = []
    for base in (file.parent, file.parent.parent):
        if (folder := child(base, "images", "upload", "media", "data")) is not None:
            places.append(folder)
    return LabelStudioSplit(file, split, (*places, file.parent))


def _task(task: Any, said: Counter[str]) -> tuple[str, list[Any] | None]:
    """Return the name of a task's image and the regions of its last annotation.

    None in place of regions: nobody has annotated it, or it was skipped. An annotation without
    regions says that nothing is on the image.
    """
    if not isinstance(task, dict):
        return "", []
    data = task["data"] if isinstance(task.get("data"), dict) else task
    texts = [value for value in data.values() if isinstance(value, str)]
    name = next((t for t in texts if _file_name(t).lower().endswith(IMAGE_SUFFIXES)), "")
    name = name or str(data.get("image") or "")
    given = task.get("annotations", task.get("completions"))
    if isinstance(given, list):
        done = [a for a in given if isinstance(a, dict) and not is_true(a.get("was_cancelled"))]
        said += Counter({_OPEN: not done, _SEVERAL: len(done) > 1})
        if not done:
            return name, None
        regions = done[-1].get("result")
    else:  # JSON-MIN has the regions in the task
        lists = [value for value in task.values() if isinstance(value, list)]
        regions = [region for found in lists for region in found]
    return name, regions if isinstance(regions, list) else []


def _merged(regions: list[Any], said: Counter[str]) -> list[Any]:
    """Join the results of one region: tags such as Rectangle and Labels share its id.

    Its class is then the label, or the choice where choices are made per region.
    """
    found: list[Any] = []
    shapes: dict[Any, Item] = {}  # without a class of their own, by id
    for region in regions:
        kind, value = region_values(region)
        own = str(region.get("id", "")) if isinstance(region, dict) else ""
        if own in shapes and kind in ("labels", *_OF_IMAGE):
            shapes[own]["value"] |= {
                key: value[key] for key in ("labels", "choices") if key in value
            }
        elif own and kind in _SHAPES:
            shapes[own] = {**region, "type": kind, "value": dict(value)}
            found.append(shapes[own])
        else:
            found.append(region)
    labels = [_labels(*region_values(region)) for region in found]
    turned = sum(isinstance(r, dict) and bool(r.get("image_rotation")) for r in found)
    said += Counter({_TURNED: turned, _MORE: sum(len(names) > 1 for names in labels)})
    return found


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
    objects: dict[str, Item] = {}  # by the ids of their regions
    for number, region in _numbered(regions, points=False):
        kind, value = region_values(region)
        found = region_object(kind, value, region, size)
        label = next(iter(_labels(kind, value)), "")
        if found is None or not label:
            what = "region without a label" if found else f"region that cannot be read: {kind}"
            _report(dataset, what, f"{where}, region {number}", path)
            continue
        found |= {"category": str(label), "iscrowd": 0, "record": f"{record}, region {number}"}
        image["annotations"].append(found)
        if region.get("id") is not None:
            objects[str(region["id"])] = found
    related = relations_of(regions)
    for number, region in _numbered(regions, points=True):
        kind, value = region_values(region)
        label = str(next(iter(_labels(kind, value)), ""))
        if what := add_region_point(region, value, label, size, objects, related):
            _report(dataset, f"{kind}: {what}", f"{where}, region {number}", path)


def _numbered(regions: Sequence[Any], points: bool) -> Iterator[tuple[int, Any]]:
    """Yield the regions that are points, or those that are not, numbered from 1."""
    for number, region in enumerate(regions, start=1):
        kind, _ = region_values(region)
        if kind not in (*_OF_IMAGE, RELATION) and (kind in POINT_KINDS) == points:
            yield number, region


def _report(dataset: DatasetSplit, what: str, where: str, image: Path) -> None:
    dataset.issues.append(reading_issue("record-broken", what, where, str(image)))


def _labels(kind: str, value: Item) -> list[Any]:
    """Return the class names of a region; there may be several, of which the first counts."""
    keys = (kind, f"{kind}labels", "labels", "choices")
    return next((value[key] for key in keys if isinstance(value.get(key), list)), [])
