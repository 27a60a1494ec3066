"""Data sets of any known format, registered by name and read when first asked for."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from d2ext.data.cache import cache_folder, cached_file
from d2ext.data.coco import load_coco, register_coco
from d2ext.data.conversion.coco import coco_document
from d2ext.data.leaving_out import leave_out_label_images
from d2ext.data.repair import note_faults
from d2ext.data.sources import Fault, Source, load_source
from d2ext.data.sources.source import with_classes
from d2ext.data.sources.splits import Share
from d2ext.data.statistics import dataset_stats
from d2ext.errors import DataError
from detectron2.data import DatasetCatalog, MetadataCatalog

_HEAD = 1 << 16  # bytes at either end of a JSON file that tell what it is
_OTHER_KINDS = (b'"segments_info"', b'"sem_seg_file_name"', b'"shapes"', b'"keypoints"')
_FOREIGN_PATH = re.compile(rb'"file_name":\s*"(/|\.\.|[A-Za-z]:|[^"]*\\\\)')
_POINTS = ("keypoint_names", "keypoint_flip_map")
_entries: dict[str, "Entry"] = {}


@dataclass(frozen=True)
class Entry:
    """What is registered under a name.

    Args:
        path: annotations, or a folder with them and the images.
        images: the images' folder; "": it is found from `path`.
        split: "train", "val", "test" or "" where `path` holds one part only.
        share: as `str(Share(...))`; "": all images.
        classes: their order; objects of others are left out. (): as the data have them.
    """

    path: str
    images: str = ""
    split: str = ""
    share: str = ""
    classes: tuple[str, ...] = ()


def register_source(name: str, entry: Entry) -> None:
    """Make `name` usable in `DATASETS`. Reads nothing until the data set is asked for.

    Registering it again with other classes replaces it.

    Raises:
        DataError: `name` is taken by another data set.
    """
    known = _entries.get(name)
    if name in DatasetCatalog.list():
        if known == entry:
            return
        if known is None or replace(known, classes=entry.classes) != entry:
            where = f" for {known.path}" if known else ""
            raise DataError(
                f"{name}: a data set of this name is registered already{where}. Choose another "
                f"name for {entry.path}."
            )
        DatasetCatalog.remove(name)
    if known is not None and name in MetadataCatalog.list():
        MetadataCatalog.remove(name)  # of other classes, or taken out of the catalog
    _entries[name] = entry
    if _is_plain_coco(entry):
        register_coco(name, entry.path, entry.images)
    else:
        DatasetCatalog.register(name, partial(_load, name, entry))


def read_entry(entry: Entry) -> Source:
    """The source that an entry names, its share and its classes.

    Raises:
        DataError: as `d2ext.data.sources.load_source`.
    """
    source = load_source(entry.path, entry.split or None, images=entry.images or None)
    if entry.share:
        source = Share.parse(entry.share).of(source)
    return with_classes(source, entry.classes) if entry.classes else source


def _is_plain_coco(entry: Entry) -> bool:
    """Whether `d2ext.data.coco` can read the files as they are, without a copy of a big JSON."""
    if not entry.images or entry.share or entry.classes or not entry.path.endswith(".json"):
        return False
    try:
        with Path(entry.path).open("rb") as file:
            ends = file.read(_HEAD)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _HEAD))
            ends += file.read()
    except OSError:
        return True  # its message says what is missing
    return not any(key in ends for key in _OTHER_KINDS) and not _FOREIGN_PATH.search(ends)


@dataclass
class _Ready:
    """A source in the form that Detectron2 loads: a COCO file, or dicts."""

    lines: list[str]
    faults: list[Fault]
    annotations: Path | None = None
    root: Path = Path()
    semantic: Source | None = None
    points: dict[str, Any] = field(default_factory=dict)  # metadata of keypoints


def described(names: Sequence[str]) -> list[str]:
    """Lines for a log: what each of the data sets was recognised as."""
    found = [name for name in dict.fromkeys(names) if name in _entries]
    return [line for name in found for line in _lines(name, _entries[name])]


def _lines(name: str, entry: Entry) -> list[str]:
    if not _is_plain_coco(entry):
        return _ready(entry).lines
    stats = dataset_stats([name])
    return [
        f"{entry.path}: COCO, {stats.num_images} images, {stats.num_objects} objects, "
        f"{len(stats.class_names)} classes: {', '.join(stats.class_names)}"
    ]


def _load(name: str, entry: Entry) -> list[dict[str, Any]]:
    ready = _ready(entry)
    if ready.annotations is not None:
        dicts = load_coco(name, ready.annotations, ready.root)
        MetadataCatalog.get(name).set(**ready.points)
        note_faults(name, ready.faults)
        return dicts
    note_faults(name, ready.faults)
    source = ready.semantic
    assert source is not None
    metadata = MetadataCatalog.get(name)
    metadata.set(stuff_classes=list(source.classes), evaluator_type="sem_seg")
    metadata.set(ignore_label=source.ignore_label)
    return [dict(image) for image in source.images]


@lru_cache(maxsize=64)
def _ready(entry: Entry) -> _Ready:
    source = read_entry(entry)
    lines = [source.describe(), *(f"{source.path}: {note}" for note in source.notes)]
    _keep_existing(source)
    if source.task == "semantic":
        leave_out_label_images(source)
        return _Ready(lines, source.faults, semantic=source)
    if source.task == "panoptic":
        raise DataError(
            f"{entry.path}: panoptic segments can be checked and shown, but models need instances "
            "or semantic masks. Register it with Detectron2's register_coco_panoptic_separated."
        )
    root = Path(os.path.commonpath([Path(i["file_name"]).parent for i in source.images]))
    content = json.dumps(coco_document(source, root, origins=True)).encode("ascii")
    name = f"{source.path.stem}-{hashlib.sha256(content).hexdigest()[:16]}.json"
    path = cached_file(cache_folder() / "annotations" / name, content)
    points = {key: value for key, value in source.metadata.items() if key in _POINTS}
    return _Ready(lines, source.faults, annotations=path, root=root, points=points)


def _keep_existing(source: Source) -> None:
    """Leave out images without a file.

    Raises:
        DataError: none is left.
    """
    missing = [image for image in source.images if not Path(image["file_name"]).is_file()]
    source.faults += [
        Fault("image not found", image["annotated_in"], image["file_name"]) for image in missing
    ]
    names = {image["file_name"] for image in missing}
    source.images = [image for image in source.images if image["file_name"] not in names]
    if not source.images:
        found = f", such as {missing[0]['file_name']}" if missing else ""
        raise DataError(f"{source.path}: none of its {len(missing)} images is there{found}.")
