"""nuScenes among the formats that `--train PATH` recognises: folders of tables, and info files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from d2ext.data.cache import file_state
from d2ext.data.formats import DatasetSplit, register_format
from d2ext.data.issues import Issue
from d2ext.data.statistics import register_annotation
from d2ext.errors import DataError
from d2ext.files import read_regular
from d2ext.projects.detr3d.data.classes import CLASSES
from d2ext.projects.detr3d.data.infos import load_infos
from d2ext.projects.detr3d.data.samples import Item
from d2ext.projects.detr3d.data.splits import split_scenes
from d2ext.projects.detr3d.data.tables import Tables, find_tables

FORMAT = "nuScenes"
EVALUATOR = "nuscenes"


@dataclass(frozen=True)
class NuScenesSplit:
    """A split of a folder of tables, or an info file.

    Attributes:
        path: the folder of tables, or the file.
        scenes: names of the scenes; () for an info file.
        first: the part that reports the issues of tables that all parts share.
    """

    path: Path
    scenes: tuple[str, ...] = ()
    first: bool = True


def find(path: Path, images: Path | None) -> Mapping[str, NuScenesSplit]:
    """Return the parts of a nuScenes folder by split, or an info file as one part."""
    if path.suffix == ".pkl":
        return {"": NuScenesSplit(path)}
    found = find_tables(path)
    if len(found) > 1:
        return {}  # which version is meant has to be said: name its folder
    splits = {
        split: (folder, scenes)
        for folder in found
        for split, scenes in split_scenes(folder.name, _scene_names(folder)).items()
    }
    first = next(iter(splits), "")
    return {
        split: NuScenesSplit(folder, tuple(scenes), split == first)
        for split, (folder, scenes) in splits.items()
    }


def load(part: NuScenesSplit) -> DatasetSplit:
    """Read the samples of a part; objects are the boxes of the ten classes."""
    issues: list[Issue] = []
    if part.scenes:
        tables = read_tables(part.path)
        items = tables.items(part.scenes)
        issues += [*(tables.issues if part.first else ()), *tables.incomplete(part.scenes)]
    else:
        items = load_infos(part.path)
    for item in items:
        item["annotated_in"] = str(part.path)
        item["annotations"] = list(_annotations(item))
    metadata = {"evaluator_type": EVALUATOR}
    return DatasetSplit(
        FORMAT, part.path, "", "boxes", CLASSES, items, issues=issues, metadata=metadata
    )


def read_tables(folder: Path) -> Tables:
    """Read a folder of tables, once for all of its splits while its files do not change."""
    return _read_tables(folder, tuple(map(file_state, sorted(folder.glob("*.json")))))


@lru_cache(maxsize=2)
def _read_tables(folder: Path, states: tuple[str, ...]) -> Tables:
    return Tables.read(folder)


def _annotations(item: Item) -> list[dict[str, Any]]:
    """Return what statistics count: the boxes of the ten classes; the arrays have the numbers."""
    pairs = zip(item["labels"].tolist(), item["boxes_3d"].tolist(), strict=True)
    return [
        {"category_id": label, "bbox_3d": box, "iscrowd": 0, "record": number}
        for number, (label, box) in enumerate(pairs)
        if label >= 0
    ]


def _scene_names(folder: Path) -> list[str]:
    path = folder / "scene.json"
    try:
        return [str(scene["name"]) for scene in json.loads(read_regular(path))]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: no list of scenes with names ({error})") from error


register_annotation("bbox_3d", "boxes in space")
register_format(FORMAT, find, load)
