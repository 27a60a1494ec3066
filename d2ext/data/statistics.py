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
class DatasetStats:
    """Of one data set or of several together. Crowd regions are not objects here."""

    class_names: tuple[str, ...]
    image_sizes: NDArray[np.int64]  # (N, 2) width and height, pixels
    object_sizes: NDArray[np.float64]  # (M, 2) width and height, pixels
    object_images: NDArray[np.int64]  # (M,) row of `image_sizes`
    class_counts: NDArray[np.int64]  # (classes,) objects
    empty_images: int  # images without an object, where objects are what is annotated
    stuff_names: tuple[str, ...] = ()  # classes of semantic masks
    run_lengths: bool = False  # whether masks are run lengths, not polygons
    num_keypoints: int = 0  # of an object, where objects have some
    annotated: frozenset[str] = frozenset()  # of "boxes", "masks", "keypoints", "semantic masks"

    @property
    def num_images(self) -> int:
        return len(self.image_sizes)

    @property
    def num_objects(self) -> int:
        return len(self.object_sizes)


_known: dict[str, tuple[Any, DatasetStats]] = {}  # by name, with the loader they came from


def dataset_stats(names: Sequence[str]) -> DatasetStats:
    """Load the data sets and sum them up; what a loader returned is asked for once a process.

    Raises:
        DataError: a name is unknown, a data set is faulty, has no classes, or the data sets do not
            have the same classes in the same order.
    """
    if not names:
        raise DataError("No data set was named: give --train or --val, or set DATASETS.")
    stats = [_stats_of(name) for name in names]
    for name, other in zip(names[1:], stats[1:], strict=True):
        _check_classes(names[0], stats[0].class_names, name, other.class_names)
    starts = np.cumsum([0, *(f.num_images for f in stats[:-1])])
    return DatasetStats(
        class_names=stats[0].class_names,
        image_sizes=np.concatenate([f.image_sizes for f in stats]),
        object_sizes=np.concatenate([f.object_sizes for f in stats]),
        object_images=np.concatenate(
            [f.object_images + start for f, start in zip(stats, starts, strict=True)]
        ),
        class_counts=np.sum([f.class_counts for f in stats], axis=0),
        empty_images=sum(f.empty_images for f in stats),
        stuff_names=stats[0].stuff_names,
        run_lengths=any(f.run_lengths for f in stats),
        num_keypoints=max(f.num_keypoints for f in stats),
        annotated=frozenset.union(*(f.annotated for f in stats)),
    )


def _stats_of(name: str) -> DatasetStats:
    if name not in DatasetCatalog.list():
        raise DataError(
            f"{name}: no data set of this name. Known: {', '.join(sorted(DatasetCatalog.list()))}."
        )
    loader = DatasetCatalog[name]
    if name not in _known or _known[name][0] is not loader:
        _known[name] = (loader, _sum_up(name, DatasetCatalog.get(name)))
    return _known[name][1]


def names_of_classes(name: str) -> list[str]:
    """The classes of a data set that was loaded: of its objects, or else of its pixels."""
    metadata = MetadataCatalog.get(name)
    return list(metadata.get("thing_classes", None) or metadata.get("stuff_classes", None) or ())


def _sum_up(name: str, dicts: list[dict[str, Any]]) -> DatasetStats:
    class_names = names_of_classes(name)
    if not class_names:
        raise DataError(
            f"{name}: its metadata have no class names. Set them where it is registered: "
            f'MetadataCatalog.get("{name}").set(thing_classes=[...]).'
        )
    objects = [_objects(item) for item in dicts if "annotations" in item]
    flat = [item for group in objects for item in group]
    labels = np.array([o["category_id"] for o in flat], dtype=np.int64)
    images = [n for n, item in enumerate(dicts) for _ in _objects(item)]
    sizes = [(item["width"], item["height"]) for item in dicts]
    return DatasetStats(
        class_names=tuple(class_names),
        image_sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
        object_sizes=np.array([_size(o) for o in flat], dtype=np.float64).reshape(-1, 2),
        object_images=np.array(images, dtype=np.int64),
        class_counts=np.bincount(labels, minlength=len(class_names)),
        empty_images=sum(not group for group in objects),
        stuff_names=tuple(MetadataCatalog.get(name).get("stuff_classes", ())),
        run_lengths=any(isinstance(o.get("segmentation"), dict) for o in flat),
        num_keypoints=max((len(o.get("keypoints", ())) // 3 for o in flat), default=0),
        annotated=_annotated(dicts, flat),
    )


def _annotated(dicts: Sequence[dict[str, Any]], objects: list[dict[str, Any]]) -> frozenset[str]:
    found = {"boxes": bool(objects)}
    found["masks"] = any(item.get("segmentation") for item in objects)
    found["keypoints"] = any(item.get("keypoints") for item in objects)
    found["semantic masks"] = any("sem_seg_file_name" in item for item in dicts)
    return frozenset(name for name, there in found.items() if there)


def _objects(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [found for found in item.get("annotations", ()) if not found.get("iscrowd", 0)]


def _size(item: dict[str, Any]) -> list[float]:
    """Width and height of a box, rotated or not."""
    box, mode = item["bbox"], item["bbox_mode"]
    if mode != BoxMode.XYWHA_ABS:
        box = BoxMode.convert(box, mode, BoxMode.XYWH_ABS)
    return list(box[2:4])


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
