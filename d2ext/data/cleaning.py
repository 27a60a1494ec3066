"""Cleaning: images and objects that training cannot use are dropped from a split and listed.

A few are dropped with a warning. Where half are unusable, the split is refused.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from d2ext.data.box_validity import enclosing_boxes, invalid_boxes
from d2ext.data.formats.dataset_split import DatasetSplit, Item, origin
from d2ext.data.image_info import ImageInfo, LabelInfo, read_label_info
from d2ext.data.image_info_cache import read_image_infos
from d2ext.data.issues import Issue
from d2ext.data.keypoint_validity import invalid_keypoints, keypoint_count
from d2ext.data.mask_validity import invalid_mask
from d2ext.data.parallel import map_files
from d2ext.data.refusals import (
    refuse_many_images,
    refuse_many_objects,
    refuse_unit,
    refuse_unread_files,
    refuse_unread_records,
)
from d2ext.errors import DataError
from d2ext.files import replacing
from d2ext.text import first_few

# What is left out where it is no object, image or record.
_PARTS = {
    "keypoint-count": "objects' keypoints, the objects stay",
    "keypoint-value": "objects' keypoints, the objects stay",
    "mask-stray": "masks' stray polygons, the masks stay",
    "labels-unlisted": "kinds of pixels, which are ignored",
    "file-unreadable": "annotation files",
    "file-missing": "annotation files",
    "annotation-orphan": "annotation files",
    "split-missing": "splits",
}

_logger = logging.getLogger(__name__)
_dropped: dict[str, list[Issue]] = {}  # of the data sets cleaned so far, by name


def clean(dataset: DatasetSplit) -> tuple[DatasetSplit, list[Issue]]:
    """Drop what training cannot use from a split.

    Returns:
        The cleaned split, which shares its dicts with `dataset`, and what is missing in it: images,
        objects and records that the reader left out.
    Raises:
        DataError: half of the images or records are unusable, or no object is left.
    """
    if dataset.refusal:
        raise DataError(dataset.refusal)
    refuse_unread_records(dataset)
    refuse_unread_files(dataset)
    cleaned, images = drop_images(dataset)
    if cleaned.annotates_pixels:
        return cleaned, [*images, *dataset.issues]
    cleaned, objects = drop_objects(cleaned)
    refuse_many_objects(dataset, objects, cleaned.num_annotations)
    cleaned, points = drop_keypoints(cleaned)
    return cleaned, [*images, *objects, *points, *dataset.issues]


def drop_images(dataset: DatasetSplit) -> tuple[DatasetSplit, list[Issue]]:
    """Drop images that cannot be read or have another size than annotated, with their objects.

    Raises:
        DataError: half of the images or more are unusable, or every object is on one of them.
    """
    problems = _image_problems(dataset)
    if not problems:
        return dataset, []
    refuse_many_images(dataset, problems)
    kept = [image for n, image in enumerate(dataset.images) if n not in problems]
    if dataset.num_annotations and not any(image["annotations"] for image in kept):
        names = first_few(Path(dataset.images[n]["file_name"]).name for n in problems)
        raise DataError(
            f"{dataset.path}: every annotation is on one of the {len(problems)} images that cannot "
            f"be used: {names}."
        )
    issues = [_image_issue(dataset.images[n], *problem) for n, problem in problems.items()]
    return replace(dataset, images=kept, coco_file=None), issues


def drop_objects(dataset: DatasetSplit) -> tuple[DatasetSplit, list[Issue]]:
    """Drop objects whose box or mask no detector can learn from.

    Raises:
        DataError: no object is left, and there were some; or all boxes have another unit.
    """
    objects = [item for image in dataset.images for item in image["annotations"]]
    counts = [len(image["annotations"]) for image in dataset.images]
    owners = np.repeat(np.arange(len(counts)), counts)
    codes = _object_codes(dataset, objects, owners)
    if not codes:
        return dataset, []
    if len(codes) == len(objects):
        found = ", ".join(f"{n} {code}" for code, n in Counter(codes.values()).items())
        raise DataError(
            f"{dataset.path}: none of the {len(objects)} annotations can be used: {found}. Boxes "
            "are x, y, width, height in pixels of the image."
        )
    issues = [
        _object_issue(dataset, dataset.images[owners[n]], objects[n], codes[n])
        for n in sorted(codes)
        if objects[n].get("segmentation") != []  # the reader has listed those
    ]
    images = list(dataset.images)
    dropped = {id(objects[n]) for n in codes}
    for position in {int(owners[n]) for n in codes}:
        kept = [o for o in images[position]["annotations"] if id(o) not in dropped]
        images[position] = {**images[position], "annotations": kept}
    return replace(dataset, images=images, coco_file=None), issues


def drop_keypoints(dataset: DatasetSplit) -> tuple[DatasetSplit, list[Issue]]:
    """Drop keypoints that no model can learn from; their objects stay, without keypoints."""
    objects_of_all = (item for image in dataset.images for item in image["annotations"])
    count = keypoint_count(dataset.metadata.get("keypoint_names"), objects_of_all)
    issues: list[Issue] = []
    images = list(dataset.images)
    for position, image in enumerate(images):
        objects = list(image["annotations"])
        for number, item in enumerate(objects):
            points = item.get("keypoints")
            if points and (problem := invalid_keypoints(points, count)):
                issues.append(_object_issue(dataset, image, item, problem[0]))
                objects[number] = {k: v for k, v in item.items() if k != "keypoints"}
                images[position] = {**image, "annotations": objects}
    if not issues:
        return dataset, []
    kept = sum("keypoints" in item for image in images for item in image["annotations"])
    if len(issues) >= kept:
        listed = first_few(f"{issue.where} ({issue.code})" for issue in issues)
        raise DataError(
            f"{dataset.path}: the keypoints of {len(issues)} of {len(issues) + kept} objects "
            f"cannot be used: {listed}. They are x, y and visibility (0, 1 or 2) of each of "
            f"{count} points."
        )
    return replace(dataset, images=images, coco_file=None), issues


def note_dropped(name: str, path: Path, issues: Sequence[Issue]) -> None:
    """Remember what was dropped from the data set `name` for `write_dropped`, and warn of it."""
    if _dropped.get(name) != list(issues):
        whole = [issue for issue in issues if issue.code not in _PARTS]
        what = "annotations" if all(issue.box for issue in whole) else "records"
        _warn_of_dropped(path, whole, what)
        for part in dict.fromkeys(_PARTS.values()):
            _warn_of_dropped(path, [i for i in issues if _PARTS.get(i.code) == part], part)
    _dropped[name] = list(issues)


def forget_dropped() -> None:
    """Forget what was dropped from the data sets of an earlier run in this process."""
    _dropped.clear()


def _warn_of_dropped(path: Path, issues: Sequence[Issue], what: str) -> None:
    if issues:
        counts = Counter(issue.code for issue in issues)
        listed = ", ".join(f"{count} {code}" for code, count in counts.items())
        _logger.warning("%s: dropped %d %s: %s.", path, len(issues), what, listed)


def write_dropped(folder: str | Path) -> list[Path]:
    """List what was dropped so far in `folder`/data_faults/<name>.json, one file per data set.

    Each entry has the keys of `Issue.as_json`, as in the report of the check.

    Raises:
        OutputError: the folder cannot be written.
    """
    written = []
    for name, issues in _dropped.items():
        if issues:
            path = Path(folder, "data_faults", f"{as_file_name(name)}.json")
            listed = [replace(issue, split=name).as_json() for issue in issues]
            with replacing(path) as part:
                part.write_text(json.dumps(listed, indent=1, allow_nan=False), encoding="utf-8")
            written.append(path)
    return written


def as_file_name(name: str) -> str:
    """Replace what a file name cannot hold by underscores."""
    return re.sub(r"[^\w.-]+", "_", name)


def _image_problems(dataset: DatasetSplit) -> dict[int, tuple[str, str]]:
    """Find unusable images: position -> code and detail."""
    infos = read_image_infos([image["file_name"] for image in dataset.images])
    found = {
        number: problem
        for number, image in enumerate(dataset.images)
        if (problem := _image_problem(image, infos[image["file_name"]]))
    }
    for number, problem in _label_problems(dataset):
        found.setdefault(number, problem)
    return dict(sorted(found.items()))


def _label_problems(dataset: DatasetSplit) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield position, code and detail of label images that cannot be used."""
    if not dataset.annotates_pixels:
        return
    key = "sem_seg_file_name" if dataset.task == "semantic" else "pan_seg_file_name"
    files = [image[key] for image in dataset.images]
    if dataset.task == "semantic":
        infos: Mapping[str, LabelInfo | ImageInfo] = map_files(read_label_info, files)
    else:
        infos = read_image_infos(files)
    for number, image in enumerate(dataset.images):
        problem = _label_problem(image, infos[image[key]])
        if problem is not None:
            yield number, problem


def _image_problem(image: Item, info: ImageInfo) -> tuple[str, str] | None:
    if info.problem:
        return info.problem, info.detail
    annotated, size = (image["width"], image["height"]), info.upright_size
    if annotated == size:
        return None
    code = "image-turned" if annotated == info.size else "image-size"
    detail = f"{size[0]} x {size[1]} pixels, its annotation says {annotated[0]} x {annotated[1]}"
    return code, detail


def _label_problem(image: Item, info: LabelInfo | ImageInfo) -> tuple[str, str] | None:
    if info.problem:
        code = "labels-missing" if info.problem.startswith("image-") else info.problem
        return code, info.detail
    size = (image["width"], image["height"])
    return None if info.size == size else ("labels-size", f"{info.size}, the image {size}")


def _object_codes(
    dataset: DatasetSplit, objects: Sequence[Item], owners: np.ndarray
) -> dict[int, str]:
    """Find unusable objects: position -> code. Those without a box in the image are no issue."""
    sides = 5 if dataset.task == "rotated" else 4
    boxed = np.array([n for n, item in enumerate(objects) if "bbox" in item], dtype=np.int64)
    boxes = chain.from_iterable(item["bbox"] for item in objects if "bbox" in item)
    sizes = [(image["width"], image["height"]) for image in dataset.images]
    frames = np.array(sizes, dtype=np.float64).reshape(-1, 2)[owners[boxed]]
    found: dict[int, str] = {}
    raw = np.fromiter(boxes, np.float64, len(boxed) * sides).reshape(-1, sides)
    refuse_unit(dataset, raw, frames)
    for code, mask in invalid_boxes(raw, frames).items():
        found |= dict.fromkeys(boxed[mask].tolist(), code)
    near = dataset.polygons_near
    for number, segmentation in enumerate([item.get("segmentation") for item in objects]):
        if segmentation is None or (near and segmentation and isinstance(segmentation, list)):
            continue
        if problem := invalid_mask(segmentation, *sizes[owners[number]]):
            found.setdefault(number, problem[0])
    return found


def _image_issue(image: Item, code: str, detail: str) -> Issue:
    if count := len(image.get("annotations", ())):
        detail += f"; dropped with {count} annotations"
    path = Path(image["file_name"])
    return Issue(code, image["annotated_in"] or str(path), detail, image=path)


def _object_issue(dataset: DatasetSplit, image: Item, item: Item, code: str) -> Issue:
    box = enclosing_boxes(np.array([item["bbox"]], dtype=np.float64))[0]
    name = dataset.classes[item["category_id"]]
    shown = ", ".join(f"{value:.6g}" for value in item["bbox"])
    return Issue(
        code,
        origin(image, item),
        f"{name} in {Path(image['file_name']).name}: [{shown}]",
        image=Path(image["file_name"]),
        box=tuple(box.tolist()),
        record=item["record"],
    )
