"""Cityscapes: images in leftImg8bit/SPLIT/CITY, labels in gtFine/SPLIT/CITY.

Recognised by these two folders. A `*_gtFine_instanceIds.png` per image is the segment map: values
from 1000 on are 1000 * label + instance, values below are a label: stuff, or a group of things.

Source: https://github.com/mcordts/cityscapesScripts (label ids).
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d2ext.data.cache import cached_file, file_state
from d2ext.data.formats.dataset_split import DatasetSplit, Item
from d2ext.data.formats.image_files import child, files_in, folders_in, image_size
from d2ext.data.issues import reading_issue
from d2ext.data.parallel import map_files
from d2ext.data.segment_maps import position_map, read_segment_ids, segment_annotations
from d2ext.errors import DataError
from d2ext.files import cache_folder

FORMAT = "Cityscapes"
_IMAGE, _MAP = "_leftImg8bit.png", "_gtFine_instanceIds.png"
_PER_LABEL = 1000  # instances of a label have the ids 1000 * label + 0, 1, ...
_VERSION = 1  # of the segments in the cache

# Label ids of the classes that are evaluated, in the order of their ids.
_STUFF = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
}
_THINGS = {
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
_NAMES = {**_STUFF, **_THINGS}
_INDICES = {label: index for index, label in enumerate(_NAMES)}


@dataclass(frozen=True)
class CityscapesSplit:
    """The folders of one split, each with a folder per city."""

    path: Path
    split: str
    images: Path


def find(path: Path, images: Path | None) -> dict[str, CityscapesSplit]:
    """Find the training and validation split; {} if `path` holds no Cityscapes."""
    labels = child(path, "gtFine") if path.name != "gtFine" else path
    images = images or (child(labels.parent, "leftImg8bit") if labels is not None else None)
    if labels is None or images is None:
        return {}
    parts = {
        split: CityscapesSplit(labels / split, split, images / split)
        for split in ("train", "val")  # the labels of "test" are dummies
    }
    return {
        split: part
        for split, part in parts.items()
        if any(files_in(city, _MAP.lower()) for city in folders_in(part.path))
    }


def load(part: CityscapesSplit) -> DatasetSplit:
    """Read one split as panoptic data; "panoptic masks" also serve as semantic and instance masks.

    Raises:
        DataError: no image has a segment map.
    """
    dataset = DatasetSplit(FORMAT, part.path, part.split, "panoptic", tuple(_NAMES.values()), [])
    dataset.metadata = {
        "isthing": [label in _THINGS for label in _NAMES],
        "void_ids": [label for label in range(_PER_LABEL) if label not in _NAMES],
    }
    maps = [path for city in folders_in(part.path) for path in files_in(city, _MAP.lower())]
    segments = _segments(maps)
    for path in maps:
        image = part.images / path.parent.name / path.name.replace(_MAP, _IMAGE)
        _add(dataset, image, path, segments[str(path)])
    if not dataset.images:
        raise DataError(f"{part.path}: no image in {part.images} has a segment map.")
    return dataset


def _add(dataset: DatasetSplit, image: Path, path: Path, segments: list[Item] | None) -> None:
    size = image_size(image)
    if size is None or segments is None:
        code, what = ("image-unreadable", "unreadable image")
        if size is not None:
            code, what = ("labels-missing", "unreadable segment map")
        dataset.issues.append(reading_issue(code, what, str(path), str(image)))
        return
    dataset.images.append(
        {
            "file_name": str(image),
            "image_id": image.name.removesuffix(_IMAGE),
            "width": size[0],
            "height": size[1],
            "annotated_in": str(path),
            "pan_seg_file_name": str(path),
            "segments_info": segments,
        }
    )


def _segments(maps: list[Path]) -> dict[str, Any]:
    """Return the segments of each map, from the cache if the maps were read before."""
    state = [file_state(path) for path in maps]
    digest = hashlib.sha256(repr((_VERSION, state)).encode()).hexdigest()[:16]

    def write(part: Path) -> None:
        found = map_files(_read_segments, [str(path) for path in maps])
        part.write_text(json.dumps(found), encoding="utf-8")

    file = cached_file(cache_folder() / "segments" / f"cityscapes-{digest}.json", write)
    return json.loads(file.read_text(encoding="utf-8"))


def _read_segments(path: str) -> list[Item] | None:
    """Return the segments of a map; None if it cannot be read."""
    try:
        ids = read_segment_ids(path)
    except OSError:
        return None
    segments = [_segment(value) for value in np.unique(ids).tolist() if _label(value) in _INDICES]
    annotations = segment_annotations(position_map(ids, segments), segments)
    for segment, found in zip(segments, annotations, strict=True):
        x0, y0, x1, y1 = found["bbox"]
        segment |= {"area": int(found["segmentation"].sum()), "bbox": [x0, y0, x1 - x0, y1 - y0]}
    return segments


def _label(value: int) -> int:
    return value // _PER_LABEL if value >= _PER_LABEL else value


def _segment(value: int) -> Item:
    label = _label(value)
    return {
        "id": value,
        "category_id": _INDICES[label],
        "iscrowd": int(label in _THINGS and value < _PER_LABEL),
        "isthing": label in _THINGS,
    }
