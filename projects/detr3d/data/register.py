"""nuScenes folders under names of the data set catalog, and the made-up set."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from d2ext.errors import DataError
from d2ext.projects.detr3d.data.classes import CLASSES
from d2ext.projects.detr3d.data.made_up import made_up_folder
from d2ext.projects.detr3d.data.samples import Item
from d2ext.projects.detr3d.data.splits import split_scenes
from d2ext.projects.detr3d.data.tables import Tables, find_tables
from detectron2.data import DatasetCatalog, MetadataCatalog

EVALUATOR = "nuscenes"


def register_nuscenes(name: str, folder: Callable[[], Path], split: str) -> None:
    """Make one split of a nuScenes folder usable in `DATASETS`. Touches no file.

    Args:
        name: in the catalog.
        folder: called when the data set is loaded; returns the folder of `v1.0-*`, or that folder.
        split: "train", "val" or "test".
    """
    if name not in DatasetCatalog.list():
        DatasetCatalog.register(name, lambda: load_nuscenes(folder(), split))
        MetadataCatalog.get(name).set(thing_classes=list(CLASSES), evaluator_type=EVALUATOR)


def load_nuscenes(root: Path, split: str) -> list[Item]:
    """Return the samples of a split as Detectron2's dicts.

    Raises:
        DataError: there are no tables, several versions of them, or no such split.
    """
    found = find_tables(root)
    if len(found) != 1:
        names = ", ".join(folder.name for folder in found) or "none"
        raise DataError(f"{root}: needs one folder of nuScenes' tables, such as v1.0-mini: {names}")
    tables = _read(found[0])
    splits = split_scenes(tables.version, tables.scene_names())
    if split not in splits:
        raise DataError(f"{found[0]}: has the splits {', '.join(splits)}; there is no {split}")
    return tables.items(splits[split])


@lru_cache(maxsize=2)
def _read(folder: Path) -> Tables:
    return Tables.read(folder)


for _split in ("train", "val"):
    register_nuscenes(f"made_up_scenes_{_split}", made_up_folder, _split)
