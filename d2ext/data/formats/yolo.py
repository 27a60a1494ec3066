"""YOLO: a text file of normalised labels for each image, and a `data.yaml` that names the splits.

Darknet's `obj.data` replaces the yaml.

A label is `class cx cy w h`, `class x1 y1 x2 y2 ...` (a polygon, or the four corners of an oriented
box where every label of the data set has exactly four) or, where `kpt_shape` is given, a box and
keypoints. Labels of `images/a.jpg` are in `labels/a.txt`, or next to the image.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from d2ext.data.formats.darknet import existing
from d2ext.data.formats.dataset_split import DatasetSplit
from d2ext.data.formats.image_files import child, images_below, read_lines
from d2ext.data.formats.text_files import read_text
from d2ext.data.formats.yolo_labels import read_labels
from d2ext.data.formats.yolo_layout import YAML_SUFFIXES, YoloSplit, find, label_file
from d2ext.data.formats.yolo_names import class_count, class_names, keypoint_metadata
from d2ext.data.issues import Issue
from d2ext.errors import DataError, NoImagesError

__all__ = ["FORMAT", "YoloSplit", "find", "load"]

FORMAT = "YOLO"


def load(part: YoloSplit) -> DatasetSplit:
    """Read the labels of a part.

    Raises:
        DataError: a path that the yaml names does not exist (with every place that was tried), or
            there are no images.
    """
    files = _images(part)
    encodings: Counter[str] = Counter()
    names = class_names(part, encodings)
    dataset = DatasetSplit(
        format=FORMAT,
        path=part.path,
        split=part.split,
        task="boxes",
        classes=tuple(names or ()),
        images=[],
        encodings=encodings,
    )
    if part.path.suffix.lower() in YAML_SUFFIXES:
        read_text(part.path, dataset.encodings)  # to say which encoding it has
    labels = [(file, label_file(file)) for file in files]
    points = read_labels(dataset, labels, part.config.get("kpt_shape"), _labels_of_others(part))
    count = class_count(part.config)
    if names and count is not None and count != len(names):
        detail = f"nc is {count}, but names lists {len(names)} classes, which count"
        dataset.notes.append(detail)
        dataset.id_issues.append(Issue("class-count", str(part.path), detail))
    if dataset.task == "keypoints":
        dataset.metadata |= keypoint_metadata(part.config, points, dataset.notes)
    return dataset


def _labels_of_others(part: YoloSplit) -> Iterator[Path]:
    """Yield the label files of the other splits, those that can be found."""
    for other in part.others:
        try:
            files = _images(other)
        except DataError:
            continue  # reading that split reports it
        yield from (labels for file in files if os.path.isfile(labels := label_file(file)))


def _images(part: YoloSplit) -> list[Path]:
    folders = [_resolve(part, entry) for entry in part.entries]
    if not part.entries:
        folders = [part.images or child(part.path, "images") or part.path]
    found: dict[Path, None] = {}
    for place in folders:
        found.update(
            dict.fromkeys(_images_in_list(place) if place.is_file() else images_below(place))
        )
    if not found:
        places = ", ".join(map(str, folders))
        raise NoImagesError(f"{places}: no images there, named for {part.path}.")
    return list(found)


def _images_in_list(file: Path) -> Iterator[Path]:
    """Return the images that a text file lists."""
    return (existing(file.parent, line) for _, line in read_lines(file))


def _resolve(part: YoloSplit, entry: str) -> Path:
    tried = list(dict.fromkeys(_places(part, entry)))
    for place in tried:
        if os.path.exists(place):
            return place
    raise DataError(
        f"{part.path}: {part.split}: {entry} does not exist. Tried: {', '.join(map(str, tried))}. "
        'Correct it, or "path", in the yaml file.'
    )


def _places(part: YoloSplit, entry: str) -> Iterator[Path]:
    """Yield where an entry may be: from the yaml's folder, by its `path`, as exports mean it."""
    here = part.path.parent if part.path.is_file() else part.path
    entry = entry.replace("\\", "/")
    yield here / entry
    base = part.config.get("path")
    if isinstance(base, str):
        yield here / Path(base).expanduser() / entry
        yield Path(base).expanduser() / entry
    stripped = entry
    while stripped.startswith("../"):
        stripped = stripped.removeprefix("../")
        yield here / stripped
    parts = Path(entry).parts
    if Path(entry).is_absolute():  # of the machine that wrote the file
        yield from (here.joinpath(*parts[-n:]) for n in (3, 2, 1) if n < len(parts))
