"""YOLO's label lines: normalised boxes, polygons, oriented boxes and keypoints."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import tee
from pathlib import Path
from typing import Any

from d2ext.data.formats.corners import rotated_box
from d2ext.data.formats.dataset_split import DatasetSplit, Item
from d2ext.data.formats.image_files import image_size, lines_or_issue
from d2ext.data.formats.values import number_words, oddities_counted
from d2ext.data.formats.yolo_keypoints import guess_keypoints, keypoint_shape
from d2ext.data.issues import reading_issue
from d2ext.errors import DataError
from detectron2.structures import BoxMode

Label = tuple[int, int, list[float]]  # line, class, numbers
MOST_CLASSES = 100_000  # a greater index is no class but a slip
_NORMALISED = 2.0  # greater numbers cannot be meant as shares of the image's size


def read_labels(
    dataset: DatasetSplit,
    files: Iterable[tuple[Path, Path]],
    kpt_shape: Any,
    others: Iterable[Path] = (),
) -> int:
    """Fill `dataset` with images, annotations, issues, task, and classes if nobody named them.

    Args:
        dataset: without images yet.
        files: each image and the path of its label file, which need not exist.
        kpt_shape: of the yaml file: number of keypoints and of numbers for each.
        others: label files of the other splits, which decide with these what four corners are.
    Returns:
        The number of keypoints; 0 without any.
    Raises:
        DataError: nothing names or uses a class.
    """
    pending = _read_images(dataset, files)
    others, more = tee(others)  # looked for only where they are needed
    numbers = [numbers for _, found in pending for *_, numbers in found]
    keypoints = keypoint_shape(kpt_shape) or guess_keypoints(numbers, _words_of(more))
    if keypoints and not kpt_shape:
        dataset.notes.append(f"no kpt_shape given: labels are boxes with {keypoints[0]} keypoints")
    confident = _drop_confidences(pending, keypoints)
    labels = [label for _, found in pending for label in found]
    oriented, most = _judge(dataset, labels, keypoints, others)
    if oriented:
        dataset.notes.append("four corners in every label: oriented boxes, not polygons")
    _name_classes(dataset, most)
    for image, found in pending:
        for label in found:
            _add(dataset, image, label, oriented, keypoints)
    if confident:
        dataset.notes.append(f"{confident} labels end with a confidence, which is not used")
    dataset.task = _task(dataset, oriented)
    return keypoints[0] if keypoints else 0


def _read_images(
    dataset: DatasetSplit, files: Iterable[tuple[Path, Path]]
) -> list[tuple[Item, list[Label]]]:
    """Add the images that can be read to `dataset`; return each with its labels."""
    found: list[tuple[Item, list[Label]]] = []
    for file, labels in files:
        size = image_size(file)
        if size is None:
            dataset.issues.append(
                reading_issue("image-unreadable", "unreadable image", str(file), str(file))
            )
            continue
        image = _image(file, size, labels, len(found) + 1)
        found.append((image, _parse(labels, image, dataset)))
        dataset.images.append(image)
    return found


def _judge(
    dataset: DatasetSplit,
    labels: Sequence[Label],
    keypoints: tuple[int, int] | None,
    others: Iterable[Path],
) -> tuple[bool, int]:
    """Return true if labels are oriented boxes, and the greatest index of a class.

    One decision per data set: a small validation set may have four-point polygons by chance, or
    lack the last of the classes that nobody names.
    """
    counts = {len(numbers) for *_, numbers in labels}
    most = max((index for _, index, _ in labels), default=-1)
    maybe_oriented = counts <= {8} and not keypoints
    if (maybe_oriented and counts) or not dataset.classes:
        lengths, most_of_others = _survey(others)
        counts, most = counts | lengths, max(most, most_of_others)
    return counts == {8} and not keypoints, most


def _drop_confidences(
    pending: list[tuple[Item, list[Label]]], keypoints: tuple[int, int] | None
) -> int:
    """Drop the confidence that ends a pseudo label, in place; return the number of them."""
    count = 0
    for _, labels in pending:
        for position, (line, index, numbers) in enumerate(labels):
            if _ends_with_confidence(numbers, keypoints):
                labels[position] = (line, index, numbers[:-1])
                count += 1
    return count


def _ends_with_confidence(numbers: list[float], keypoints: tuple[int, int] | None) -> bool:
    """Return true for one number more than a box, its keypoints or whole points have."""
    if not numbers or not 0 <= numbers[-1] <= 1:
        return False
    if keypoints:
        return len(numbers) in (5, 5 + keypoints[0] * keypoints[1])
    return len(numbers) >= 5 and len(numbers) % 2 == 1


def _survey(files: Iterable[Path]) -> tuple[set[int], int]:
    """Return how many numbers labels of other splits have after the class, and the last class."""
    lengths, most = set(), -1
    for words in _words_of(files):
        numbers = len(words) - 1
        lengths.add(numbers - (numbers >= 5 and numbers % 2))  # without a confidence
        if words[0].isdecimal() and int(words[0]) < MOST_CLASSES:
            most = max(most, int(words[0]))
    return lengths, most


def _words_of(files: Iterable[Path]) -> Iterator[list[str]]:
    """Yield the words of every label of another split, whose reading reports what is odd in it."""
    unread = DatasetSplit("", Path(), "", "boxes", (), [])
    for file in files:
        with oddities_counted():
            labels = [number_words(line) for _, line in lines_or_issue(file, unread, "")]
        yield from filter(None, labels)


def _image(file: Path, size: tuple[int, int], labels: Path, number: int) -> Item:
    return {
        "file_name": str(file),
        "image_id": number,
        "width": size[0],
        "height": size[1],
        "annotated_in": str(labels) if os.path.exists(labels) else "",
        "annotations": [],
    }


def _parse(file: Path, image: Item, dataset: DatasetSplit) -> list[Label]:
    if not image["annotated_in"]:
        return []
    found = []
    for line, text in lines_or_issue(file, dataset, image["file_name"]):
        if text.startswith("#"):
            continue
        words = _with_index(number_words(text), dataset.classes)
        try:
            index, *numbers = map(float, words)
        except ValueError:
            _report(dataset, "record-broken", "label that is not numbers", image, line, text)
            continue
        if not 0 <= index < MOST_CLASSES or index != int(index):
            _report(dataset, "record-broken", "label without a class index", image, line, text)
        else:
            found.append((line, int(index), numbers))
    return found


def _with_index(words: list[str], classes: Sequence[str]) -> list[str]:
    """Replace the name of a class, which may have spaces, by its index."""
    count = next((n for n, word in enumerate(words) if word[:1] in "+-.0123456789"), len(words))
    name = " ".join(words[:count])
    return [str(classes.index(name)), *words[count:]] if name in classes else words


def _name_classes(dataset: DatasetSplit, most: int) -> None:
    if not dataset.classes:
        dataset.classes = tuple(f"class_{n}" for n in range(most + 1))
        dataset.notes.append("no names given: classes are named by their index")
    if not dataset.classes:
        raise DataError(f"{dataset.path}: no labels and no class names found.")


def _add(
    dataset: DatasetSplit,
    image: Item,
    label: Label,
    oriented: bool,
    keypoints: tuple[int, int] | None,
) -> None:
    line, index, numbers = label
    if index >= len(dataset.classes):
        found = f"index {index} of {len(dataset.classes)}"
        _report(dataset, "class-unknown", "unknown class", image, line, found)
        return
    if numbers and max(numbers) > _NORMALISED:
        what = "label that is not normalised"
        _report(dataset, "record-broken", what, image, line, f"{max(numbers)} is above 1")
        return
    shape = _shape(numbers, image["width"], image["height"], oriented, keypoints)
    if shape is None:
        _report(dataset, "record-broken", f"label of {len(numbers) + 1} numbers", image, line)
        return
    shape |= {"category_id": index, "iscrowd": 0, "record": line}
    image["annotations"].append(shape)


def _shape(
    numbers: list[float],
    width: int,
    height: int,
    oriented: bool,
    keypoints: tuple[int, int] | None,
) -> Item | None:
    count = len(numbers)
    if keypoints and count == 4 + keypoints[0] * keypoints[1]:
        points = _points(numbers[4:], keypoints[1], width, height)
        return {**_box(numbers[:4], width, height), "keypoints": points}
    if count == 4:
        return _box(numbers, width, height)
    if count < 6 or count % 2:
        return None
    points = [n * (width, height)[i % 2] for i, n in enumerate(numbers)]
    if oriented:
        return {"bbox": rotated_box(points), "bbox_mode": BoxMode.XYWHA_ABS}
    xs, ys = points[::2], points[1::2]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "segmentation": [points]}


def _box(numbers: list[float], width: int, height: int) -> Item:
    cx, cy, w, h = numbers
    box = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
    return {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS}


def _points(numbers: list[float], each: int, width: int, height: int) -> list[float]:
    """Return pixels and visibility; without one, a point at the origin is not labelled."""
    found: list[float] = []
    for n in range(0, len(numbers), each):
        x, y = numbers[n : n + 2]
        seen = numbers[n + 2] if each == 3 else 2.0 * bool(x or y)
        found += [x * width, y * height, seen]
    return found


def _task(dataset: DatasetSplit, oriented: bool) -> Any:
    items = [item for image in dataset.images for item in image["annotations"]]
    if oriented:
        return "rotated"
    if any("keypoints" in item for item in items):
        return "keypoints"
    return "masks" if any("segmentation" in item for item in items) else "boxes"


def _report(
    dataset: DatasetSplit, code: str, what: str, image: Item, line: int, found: str = ""
) -> None:
    where = f"{image['annotated_in']}:{line}"
    dataset.issues.append(reading_issue(code, what, where, image["file_name"], found[:80]))
