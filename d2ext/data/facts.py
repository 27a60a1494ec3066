"""What the data say about themselves: sizes, classes, counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2ext.errors import DataError
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode


@dataclass(eq=False)
class DatasetFacts:
    """Of one data set or of several together. Crowd regions are not objects here."""

    class_names: tuple[str, ...]
    image_sizes: NDArray[np.int64]  # (N, 2) width and height, pixels
    object_sizes: NDArray[np.float64]  # (M, 2) width and height, pixels
    class_counts: NDArray[np.int64]  # (classes,) objects
    empty_images: int  # images without an object

    @property
    def num_images(self) -> int:
        return len(self.image_sizes)

    @property
    def num_objects(self) -> int:
        return len(self.object_sizes)


_known: dict[str, tuple[Any, DatasetFacts]] = {}  # by name, with the loader they came from


def dataset_facts(names: Sequence[str]) -> DatasetFacts:
    """Load the data sets and sum them up; what a loader returned is asked for once a process.

    Raises:
        DataError: a name is unknown, a data set is faulty, has no classes, or the data sets do not
            have the same classes in the same order.
    """
    if not names:
        raise DataError("No data set was named: give --train or --val, or set DATASETS.")
    facts = [_facts_of(name) for name in names]
    for name, other in zip(names[1:], facts[1:], strict=True):
        _check_classes(names[0], facts[0].class_names, name, other.class_names)
    return DatasetFacts(
        class_names=facts[0].class_names,
        image_sizes=np.concatenate([f.image_sizes for f in facts]),
        object_sizes=np.concatenate([f.object_sizes for f in facts]),
        class_counts=np.sum([f.class_counts for f in facts], axis=0),
        empty_images=sum(f.empty_images for f in facts),
    )


def _facts_of(name: str) -> DatasetFacts:
    if name not in DatasetCatalog.list():
        raise DataError(
            f"{name}: no data set of this name. Known: {', '.join(sorted(DatasetCatalog.list()))}."
        )
    loader = DatasetCatalog[name]
    if name not in _known or _known[name][0] is not loader:
        _known[name] = (loader, _sum_up(name, DatasetCatalog.get(name)))
    return _known[name][1]


def _sum_up(name: str, dicts: list[dict[str, Any]]) -> DatasetFacts:
    class_names = MetadataCatalog.get(name).get("thing_classes")
    if not class_names:
        raise DataError(
            f"{name}: its metadata have no class names. Set them where it is registered: "
            f'MetadataCatalog.get("{name}").set(thing_classes=[...]).'
        )
    objects = [
        [o for o in item.get("annotations", ()) if not o.get("iscrowd", 0)] for item in dicts
    ]
    flat = [item for group in objects for item in group]
    boxes = [BoxMode.convert(o["bbox"], o["bbox_mode"], BoxMode.XYWH_ABS) for o in flat]
    labels = np.array([o["category_id"] for o in flat], dtype=np.int64)
    sizes = [(item["width"], item["height"]) for item in dicts]
    return DatasetFacts(
        class_names=tuple(class_names),
        image_sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
        object_sizes=np.array(boxes, dtype=np.float64).reshape(-1, 4)[:, 2:],
        class_counts=np.bincount(labels, minlength=len(class_names)),
        empty_images=sum(not group for group in objects),
    )


def _objects(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [found for found in item.get("annotations", ()) if not found.get("iscrowd", 0)]


def _check_classes(name: str, classes: Sequence[str], other: str, others: Sequence[str]) -> None:
    if tuple(classes) == tuple(others):
        return
    only, extra = set(classes) - set(others), set(others) - set(classes)
    if only or extra:
        difference = f"only in {name}: {_list(only)}; only in {other}: {_list(extra)}"
    else:
        difference = f"the order differs: {', '.join(classes)} and {', '.join(others)}"
    raise DataError(
        f"{name} and {other} have different classes ({difference}). Give their annotation files "
        "the same categories with the same ids."
    )


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
