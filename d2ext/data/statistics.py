"""Dataset statistics: sizes, classes, counts, and what is annotated."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2ext.data.image_sizes import fill_in_sizes
from d2ext.data.segment_maps import thing_numbers
from d2ext.errors import DataError
from d2ext.text import join_sorted
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode


@dataclass(eq=False)
class DatasetStats:
    """Statistics of one data set or of several together; crowd regions are not counted as objects.

    Args:
        class_names: of objects, or else of pixels.
        image_sizes: (N, 2) width and height in pixels.
        object_sizes: (M, 2) width and height in pixels of the objects that have a box.
        object_images: (M,) row of `image_sizes` for each of them.
        class_counts: (classes,) objects, with a box or without.
        empty_images: images without an object, where objects are annotated.
        stuff_names: classes of semantic masks.
        run_lengths: some masks are run lengths, not polygons.
        num_keypoints: the most that an object has.
        labelled_keypoints: keypoints of all objects whose visibility is not 0.
        num_difficult: objects that are marked difficult.
        rotated: the boxes are rotated.
        annotated: "boxes", "masks", "keypoints", "semantic masks", "panoptic masks", and what
            `register_annotation` adds to them.
        thing_ids: of panoptic data, those of `stuff_names` that are things.
    """

    class_names: tuple[str, ...]
    image_sizes: NDArray[np.int64]
    object_sizes: NDArray[np.float64]
    object_images: NDArray[np.int64]
    class_counts: NDArray[np.int64]
    empty_images: int
    stuff_names: tuple[str, ...] = ()
    run_lengths: bool = False
    num_keypoints: int = 0
    labelled_keypoints: int = 0
    num_difficult: int = 0
    rotated: bool = False
    annotated: frozenset[str] = frozenset()
    thing_ids: tuple[int, ...] = ()

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.image_sizes)

    @property
    def num_objects(self) -> int:
        """Number of objects, with a box or without."""
        return int(self.class_counts.sum())


_known: dict[str, tuple[Any, DatasetStats]] = {}  # by name, with the loader they came from


def dataset_stats(names: Sequence[str]) -> DatasetStats:
    """Compute the statistics of data sets; each loader is called once per process.

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
        labelled_keypoints=sum(f.labelled_keypoints for f in stats),
        num_difficult=sum(f.num_difficult for f in stats),
        rotated=any(f.rotated for f in stats),
        annotated=frozenset.union(*(f.annotated for f in stats)),
        thing_ids=stats[0].thing_ids,
    )


def _stats_of(name: str) -> DatasetStats:
    if name not in DatasetCatalog.list():
        raise DataError(
            f"{name}: no data set of this name. Known: {', '.join(sorted(DatasetCatalog.list()))}."
        )
    loader = DatasetCatalog[name]
    if name not in _known or _known[name][0] is not loader:
        _known[name] = (loader, _sum_up(name, fill_in_sizes(DatasetCatalog.get(name))))
    return _known[name][1]


_CLASSES = ("thing_classes", "stuff_classes")


def names_of_classes(name: str) -> list[str]:
    """Return the classes of a data set that was loaded: of its objects, or else of its pixels."""
    metadata = MetadataCatalog.get(name)
    return list(metadata.get("thing_classes", None) or metadata.get("stuff_classes", None) or ())


def register_annotation(key: str, word: str) -> None:
    """Register what a key of annotations in Detectron2's dicts annotates.

    `DatasetStats.annotated` has the word where any object has a value under the key, so that a
    meta-architecture can ask for data of that kind.

    Args:
        key: such as "segmentation".
        word: the plural that messages have, such as "masks".
    """
    _ANNOTATION_WORDS[key] = word


_ANNOTATION_WORDS: dict[str, str] = {}
register_annotation("bbox", "boxes")
register_annotation("segmentation", "masks")
register_annotation("keypoints", "keypoints")


def _sum_up(name: str, dicts: list[dict[str, Any]]) -> DatasetStats:
    class_names = names_of_classes(name)
    # A set of images without objects has no classes; those of the training data are given later.
    named = any(MetadataCatalog.get(name).get(key, None) is not None for key in _CLASSES)
    if not class_names and (not named or any(item.get("annotations") for item in dicts)):
        raise DataError(
            f"{name}: its metadata have no class names. Set them where it is registered: "
            f'MetadataCatalog.get("{name}").set(thing_classes=[...]).'
        )
    numbers = thing_numbers(MetadataCatalog.get(name).get("isthing", ()))
    things = MetadataCatalog.get(name).get("thing_dataset_id_to_contiguous_id", {}).values()
    groups = [_objects(item, numbers, frozenset(things)) for item in dicts]
    flat = [item for group in groups for item in group]
    owners = np.repeat(np.arange(len(dicts)), [len(group) for group in groups])
    boxed = [number for number, item in enumerate(flat) if "bbox" in item]
    sizes = [(item["width"], item["height"]) for item in dicts]
    labels = np.array([o["category_id"] for o in flat], dtype=np.int64)
    # A look at each object's keys in C, since nearly a million of them lack the rare ones.
    keys = frozenset().union(*flat)
    pointed = flat if "keypoints" in keys else ()
    return DatasetStats(
        class_names=tuple(class_names),
        image_sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
        object_sizes=_sizes([flat[number] for number in boxed]),
        object_images=owners[boxed],
        class_counts=np.bincount(labels, minlength=len(class_names)),
        empty_images=sum(
            not group for group, item in zip(groups, dicts, strict=True) if "annotations" in item
        ),
        stuff_names=tuple(MetadataCatalog.get(name).get("stuff_classes", ())),
        run_lengths="segmentation" in keys and dict in {type(o.get("segmentation")) for o in flat},
        num_keypoints=max((len(o.get("keypoints", ())) // 3 for o in pointed), default=0),
        labelled_keypoints=sum(v > 0 for o in pointed for v in o.get("keypoints", ())[2::3]),
        num_difficult=sum(bool(o.get("difficult")) for o in flat) if "difficult" in keys else 0,
        rotated=BoxMode.XYWHA_ABS in {flat[number]["bbox_mode"] for number in boxed},
        annotated=_annotated(dicts, flat, keys),
        thing_ids=tuple(numbers) or _thing_ids(dicts, frozenset(things)),
    )


def _thing_ids(dicts: Sequence[dict[str, Any]], things: Collection[int]) -> tuple[int, ...]:
    """Return the things of panoptic data of other packages: all known ones, or those that occur."""
    segments = [s for item in dicts for s in item.get("segments_info", ())]
    if segments and things:
        return tuple(sorted(things))
    return tuple(sorted({s["category_id"] for s in segments if _is_thing(s, things)}))


def _is_thing(segment: dict[str, Any], things: Collection[int]) -> bool:
    # Detectron2's Cityscapes has no "isthing".
    return segment.get("isthing", segment["category_id"] in things)


def _annotated(
    dicts: Sequence[dict[str, Any]], objects: list[dict[str, Any]], keys: Collection[str]
) -> frozenset[str]:
    words = {
        word
        for key, word in _ANNOTATION_WORDS.items()
        if key in keys and any(_holds(item.get(key)) for item in objects)
    }
    if any("sem_seg_file_name" in item for item in dicts):
        words.add("semantic masks")
    if any("pan_seg_file_name" in item and "segments_info" in item for item in dicts):
        # The mapper makes all of these from segments.
        words |= {"panoptic masks", "semantic masks", "masks", "boxes"}
    return frozenset(words)


def _holds(value: Any) -> bool:
    # Lists, run lengths and arrays, which have no truth value, may be empty; numbers are not.
    return value is not None and (not hasattr(value, "__len__") or len(value) > 0)


def _objects(
    item: dict[str, Any],
    thing_numbers: Mapping[int, int] = MappingProxyType({}),
    things: Collection[int] = (),
) -> list[dict[str, Any]]:
    """Return the objects of an image; of panoptic data its things, counted as `class_names` are."""
    if "annotations" in item or "segments_info" not in item:
        return [found for found in item.get("annotations", ()) if not found.get("iscrowd", 0)]
    return [
        {
            **segment,
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": thing_numbers.get(category, category),
        }
        for segment in item["segments_info"]
        if _is_thing(segment, things) and not segment.get("iscrowd", 0)
        for category in [segment["category_id"]]
    ]


def _sizes(objects: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """Return the (N, 2) widths and heights of boxes, rotated or not."""
    boxes = [item["bbox"] for item in objects]
    if not {item["bbox_mode"] for item in objects} <= {BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS}:
        boxes = [_with_size(item) for item in objects]
    sides = chain.from_iterable(map(itemgetter(slice(2, 4)), boxes))
    return np.fromiter(sides, np.float64, 2 * len(boxes)).reshape(-1, 2)


def _with_size(item: dict[str, Any]) -> list[float]:
    box, mode = item["bbox"], item["bbox_mode"]
    if mode == BoxMode.XYWHA_ABS:
        return box
    return list(BoxMode.convert(box, mode, BoxMode.XYWH_ABS))


def _check_classes(name: str, classes: Sequence[str], other: str, others: Sequence[str]) -> None:
    if tuple(classes) == tuple(others):
        return
    only, extra = set(classes) - set(others), set(others) - set(classes)
    if only or extra:
        difference = f"only in {name}: {join_sorted(only)}; only in {other}: {join_sorted(extra)}"
    else:
        difference = f"the order differs: {', '.join(classes)} and {', '.join(others)}"
    raise DataError(
        f"{name} and {other} have different classes ({difference}). Give their annotation files "
        "the same categories with the same ids."
    )
