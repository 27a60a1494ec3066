"""The two numberings of Detectron2's PanopticFPN: its heads count things and stuff apart.

The instance heads number things from 0. For the semantic head all things are class 0, and stuff is
numbered from 1. Panoptic data have one numbering of all categories.

Source: Kirillov et al., "Panoptic Feature Pyramid Networks", 2019, arXiv:1901.02446, section 3.
"""

from collections.abc import Sequence

from d2ext.data.formats.dataset_split import Item
from d2ext.data.segment_maps import thing_numbers
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY, PanopticFPN

THINGS = "things"  # name of the semantic class of all things


def is_panoptic_fpn(cfg: CfgNode) -> bool:
    """Return True if the model is Detectron2's PanopticFPN or a subclass of it."""
    name = cfg.MODEL.META_ARCHITECTURE
    model_class = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None
    return isinstance(model_class, type) and issubclass(model_class, PanopticFPN)


def separates_things(cfg: CfgNode) -> bool:
    """Return True for a PanopticFPN whose training data number things and stuff together.

    Detectron2's own "separated" data sets come with both numberings.
    """
    names = cfg.DATASETS.TRAIN[:1]
    together = bool(names) and bool(MetadataCatalog.get(names[0]).get("isthing", ()))
    return together and is_panoptic_fpn(cfg)


def numbers_apart(dataset_name: str) -> bool:
    """Return True for a "separated" data set of Detectron2: its things and stuff share numbers."""
    things, stuff = _numbers(dataset_name)
    return bool(things & stuff)


def thing_flags(dataset_name: str) -> list[bool]:
    """Return for each of the panoptic data's `stuff_classes` whether it is a thing."""
    metadata = MetadataCatalog.get(dataset_name)
    if flags := metadata.get("isthing", ()):
        return list(flags)
    things, _ = _numbers(dataset_name)  # one of Detectron2's own data sets
    return [number in things for number in range(len(metadata.stuff_classes))]


def _numbers(dataset_name: str) -> tuple[set[int], set[int]]:
    """Return the class numbers of things and of stuff of one of Detectron2's data sets."""
    metadata = MetadataCatalog.get(dataset_name)
    kinds = ("thing_dataset_id_to_contiguous_id", "stuff_dataset_id_to_contiguous_id")
    things, stuff = (set(metadata.get(kind, {}).values()) for kind in kinds)
    return things, stuff


def semantic_numbers(isthing: Sequence[bool]) -> list[int]:
    """Return the semantic class of each category: 0 for things, stuff from 1."""
    stuff = [category for category, thing in enumerate(isthing) if not thing]
    return [0 if thing else 1 + stuff.index(category) for category, thing in enumerate(isthing)]


def with_categories(segments: Sequence[Item], isthing: Sequence[bool]) -> list[Item]:
    """Return predicted segments with the categories of the data as "category_id".

    Args:
        segments: "isthing", and "category_id" in the numbering of the head that found it.
    """
    things = [*thing_numbers(isthing)]
    stuff = [category for category, thing in enumerate(isthing) if not thing]
    return [
        {**each, "category_id": things[number] if each["isthing"] else stuff[number - 1]}
        for each in segments
        for number in (each["category_id"],)
    ]
