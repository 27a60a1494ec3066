"""The made-up scenes under names of the data set catalog."""

from functools import partial

from d2ext.projects.detr3d.data.classes import CLASSES
from d2ext.projects.detr3d.data.formats import EVALUATOR, find, load
from d2ext.projects.detr3d.data.made_up import made_up_folder
from d2ext.projects.detr3d.data.samples import Item
from detectron2.data import DatasetCatalog, MetadataCatalog

SPLITS = ("train", "val")


def load_made_up(split: str) -> list[Item]:
    """Return the samples of "train" or "val", rendered into the cache the first time."""
    return load(find(made_up_folder(), None)[split]).images


def register_made_up() -> None:
    """Make "made_up_scenes_train" and "made_up_scenes_val" usable. Touches no file."""
    for split in SPLITS:
        name = f"made_up_scenes_{split}"
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, partial(load_made_up, split))
            MetadataCatalog.get(name).set(thing_classes=list(CLASSES), evaluator_type=EVALUATOR)


register_made_up()
