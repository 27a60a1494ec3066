"""The data set catalog: data sets of any format by name, read when they are first asked for.

The path of all of them: detect the format, read a split, clean it, hand out Detectron2's dicts.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from d2ext.data.cache import cached_file
from d2ext.data.cleaning import as_file_name, clean, forget_dropped, note_dropped
from d2ext.data.conversion.coco import category_ids, write_coco_file
from d2ext.data.formats import DatasetSplit, load_split
from d2ext.data.formats.archive import naming_user_paths
from d2ext.data.formats.coco_document import collection_paused
from d2ext.data.formats.common_task import with_task
from d2ext.data.formats.dataset_split import image_root, with_classes
from d2ext.data.formats.holdout import Holdout
from d2ext.data.formats.semantic_pixels import with_mask_classes
from d2ext.data.image_info_cache import infos_kept
from d2ext.data.issues import Issue
from d2ext.data.parallel import worker_pool
from d2ext.errors import ConfigError, DataError
from d2ext.files import cache_folder
from detectron2.data import DatasetCatalog, MetadataCatalog

_VERSION = 3  # of the COCO files in the cache: raise it when their content changes
_POINTS = ("keypoint_names", "keypoint_flip_map")
_OURS_ALONE = ("record", "area")  # of annotations, which training does not need


@dataclass(frozen=True)
class DatasetSpec:
    """What is registered under a name.

    Args:
        path: annotations, or a folder with them and the images.
        images: folder of the images; "": it is found from `path`.
        split: "train", "val", "test" or "" where `path` holds one part only.
        holdout: a part of the images; None: all of them.
        classes: their order; objects of others are left out. (): as the data have them.
        task: "masks" or "rotated", in which boxes are read, see `with_task`; "": as the data are.
    """

    path: str
    images: str = ""
    split: str = ""
    holdout: Holdout | None = None
    classes: tuple[str, ...] = ()
    task: str = ""

    @classmethod
    def from_mapping(cls, entry: Mapping[str, Any], classes: Sequence[str] = ()) -> "DatasetSpec":
        """Build one from the fields of a config, all but "name".

        Raises:
            ConfigError: a field is missing, unknown or has another value.
        """
        given = {key: value for key, value in entry.items() if key != "name"}
        holdout = given.pop("holdout", None)
        known = [field.name for field in fields(cls) if field.name != "classes"]
        texts = all(isinstance(value, str) for value in given.values())
        if not given.get("path") or not texts or not set(given) <= set(known):
            raise ConfigError(
                f"expected the fields name, {', '.join(known)}, of which name and path are needed, "
                f"got {dict(entry)!r}."
            )
        part = None if holdout is None else Holdout.from_mapping(holdout)
        return cls(**given, holdout=part, classes=tuple(classes))

    def as_mapping(self, name: str) -> dict[str, Any]:
        """Return the fields, as a config has them; those that are empty are left out."""
        found = {"name": name, "path": self.path, "images": self.images, "split": self.split}
        found["task"] = self.task
        found = {key: value for key, value in found.items() if value}
        return found | ({"holdout": self.holdout.as_mapping()} if self.holdout else {})


@dataclass
class _Loaded:
    """A data set in memory.

    Args:
        raw: as the check sees it.
        cleaned: as training sees it; shares its dicts with `raw`.
        dropped: what is missing in `cleaned`.
        coco_file: holds the objects of `cleaned`; None where COCO's format cannot.
    """

    raw: DatasetSplit
    cleaned: DatasetSplit
    dropped: list[Issue]
    coco_file: Path | None


_specs: dict[str, DatasetSpec] = {}
_loaded: dict[DatasetSpec, _Loaded] = {}  # read ahead; the first loader that asks takes it
_raw: dict[DatasetSpec, DatasetSplit] = {}  # within `reading_ahead`, as the files have them
_is_reading_ahead = False
_of_runs: set[str] = set()  # names that belong to the last run of this process


def register_dataset(name: str, spec: DatasetSpec) -> None:
    """Make `name` usable in `DATASETS`. Reads nothing until the data set is asked for.

    Registering it again with other classes or another task replaces it.

    Raises:
        DataError: `name` is taken by another data set.
    """
    known = _specs.get(name)
    if name in DatasetCatalog.list():
        if known == spec:
            return
        if known is None or replace(known, classes=spec.classes, task=spec.task) != spec:
            where = f" for {known.path}" if known else ""
            raise DataError(
                f"{name}: a data set of this name is registered already{where}. Choose another "
                f"name for {spec.path}."
            )
        DatasetCatalog.remove(name)
    if known is not None and name in MetadataCatalog.list():
        MetadataCatalog.remove(name)  # of other classes, or of a set taken out of the catalog
    _specs[name] = spec
    DatasetCatalog.register(name, partial(load_dataset, name, spec))


def register_coco(name: str, annotations: Path | str, images: Path | str) -> None:
    """Register a COCO file, as `register_dataset` does.

    Args:
        annotations: a JSON file in one of COCO's formats.
        images: the folder that the file's names of images start from.
    """
    register_dataset(name, DatasetSpec(str(annotations), str(images)))


def load_dataset(name: str, spec: DatasetSpec) -> list[dict[str, Any]]:
    """Load Detectron2's dicts of a data set, without what training cannot use.

    The metadata get what evaluation needs. Their `json_file` is a COCO file with exactly these
    objects: the user's own where nothing had to be changed, else one in the cache, with its ids.

    Raises:
        DataError: the data cannot be used.
        OutputError: the cache cannot be written.
    """
    loaded = _load(spec)
    _describe(name, loaded)
    note_dropped(name, loaded.cleaned.path, loaded.dropped)
    if _is_reading_ahead:
        return loaded.cleaned.images
    _loaded.pop(spec, None)
    # The dicts have no other owner now, so they need not be copied.
    for image in loaded.cleaned.images:
        image.pop("annotated_in", None)
        for annotation in image.get("annotations", ()):
            for key in _OURS_ALONE:
                annotation.pop(key, None)
    return loaded.cleaned.images


def read_dataset(spec: DatasetSpec) -> DatasetSplit:
    """Read the split that a spec names, with its part and its classes; nothing is cleaned.

    Raises:
        DataError: as `d2ext.data.formats.load_split`.
    """
    key = replace(spec, task="", holdout=None, classes=())
    dataset = _raw.get(key) or load_split(key.path, key.split or None, images=key.images or None)
    if _is_reading_ahead:
        _raw[key] = dataset
    dataset = with_task(dataset, spec.task)
    if spec.holdout is not None:
        dataset = spec.holdout.of(dataset)
    if not spec.classes:
        return dataset
    choose = with_mask_classes if dataset.task == "semantic" else with_classes
    return choose(dataset, spec.classes)


@contextmanager
def reading_ahead() -> Iterator[None]:
    """Within it, data sets are read once, however often they are asked for.

    The dicts handed out are shared then and must not be changed. What was read stays in memory
    until `DatasetCatalog.get` is called after the end of this context, once for each data set, or
    until `forget_datasets`: so statistics, check and loader of a run share one parse.
    """
    global _is_reading_ahead
    _is_reading_ahead = True
    try:
        # The collector would walk through all of the data again and again.
        with infos_kept(), worker_pool(), collection_paused():
            yield
    except BaseException:
        _loaded.clear()
        raise
    finally:
        _is_reading_ahead = False
        _raw.clear()


def forget_datasets() -> None:
    """Free what `reading_ahead` left in memory, where other processes load the data."""
    _loaded.clear()


def replace_datasets(entries: Sequence[Mapping[str, Any]]) -> None:
    """Make room for the data sets of a new run in a process that has had one, a notebook.

    Names of `entries` that an earlier call of this function named are free again.

    Args:
        entries: of `DATASETS.REGISTER`.
    """
    forget_dropped()
    for name in _of_runs.intersection(DatasetCatalog.list()):
        DatasetCatalog.remove(name)
        _specs.pop(name, None)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)
    _of_runs.clear()
    taken = set(DatasetCatalog.list())
    _of_runs.update(name for e in entries if (name := str(e.get("name"))) not in taken)


def describe_datasets(names: Sequence[str]) -> list[str]:
    """Return lines for a log: the format and contents of each registered data set."""
    lines = []
    for name in dict.fromkeys(names):
        if name in _specs:
            dataset = _load(_specs[name]).cleaned
            lines += [dataset.describe(), *(f"{dataset.path}: {note}" for note in dataset.notes)]
    return lines


def image_list(name: str) -> str:
    """Return the number of images of a registered data set and a hash of their names.

    Names count from the innermost folder of all: data may be moved.
    """
    images = _load(_specs[name]).raw.images
    root = image_root(images) if images else ""
    names = sorted(os.path.relpath(image["file_name"], root) for image in images)
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass"))
    return f"{len(names)} images, {digest.hexdigest()[:16]}"


def set_metadata(name: str, **values: Any) -> None:
    """Set metadata of a data set, also in place of others, which `Metadata.set` refuses."""
    metadata = MetadataCatalog.get(name)
    for key in values:
        metadata.__dict__.pop(key, None)
    metadata.set(**values)


def _load(spec: DatasetSpec) -> _Loaded:
    if spec in _loaded:
        return _loaded[spec]
    raw = read_dataset(spec)
    with naming_user_paths():
        cleaned, dropped = clean(raw)
    file = _coco_file(cleaned, spec, dropped) if _fits_coco(cleaned) else None
    loaded = _Loaded(raw, cleaned, dropped, file)
    if _is_reading_ahead:
        _loaded[spec] = loaded
    return loaded


def _fits_coco(dataset: DatasetSplit) -> bool:
    """Return True for objects with boxes in the image; COCO's files hold no others."""
    objects = (item for image in dataset.images for item in image.get("annotations", ()))
    return not dataset.annotates_pixels and all("bbox" in item for item in objects)


def _coco_tasks(dataset: DatasetSplit) -> tuple[str, ...]:
    """Return what COCO's evaluation can measure: "bbox", and "segm" and "keypoints" if given."""
    objects = [item for image in dataset.images for item in image["annotations"]]
    masks = any(item.get("segmentation") for item in objects)
    points = any(item.get("keypoints") for item in objects)
    # Nothing is missing where there is no object at all.
    return ("bbox", *["segm"] * (masks or not objects), *["keypoints"] * (points or not objects))


def _coco_file(cleaned: DatasetSplit, spec: DatasetSpec, dropped: Sequence[Issue]) -> Path:
    """Return a COCO file with the objects of `cleaned`, written into the cache if need be."""
    if cleaned.coco_file is not None:
        return cleaned.coco_file
    digest = hashlib.sha256(repr((_VERSION, spec, cleaned.digest, dropped)).encode())
    if not cleaned.digest:  # many files: their content is what became of them
        digest.update(repr(cleaned.images).encode("utf-8", "surrogatepass"))
    name = f"{as_file_name(cleaned.path.stem)}-{digest.hexdigest()[:16]}.json"
    root = Path(image_root(cleaned.images))
    write = partial(write_coco_file, cleaned, root=root)
    return cached_file(cache_folder() / "annotations" / name, write)


def _describe_pixels(name: str, dataset: DatasetSplit) -> None:
    """Set metadata: `stuff_classes` are all classes, `thing_classes` the things among them."""
    kinds = {"semantic": "sem_seg", "panoptic": "panoptic"}
    kind = dataset.metadata.get("evaluator_type", kinds[dataset.task])
    set_metadata(name, stuff_classes=list(dataset.classes), evaluator_type=kind)
    set_metadata(name, ignore_label=dataset.ignore_label)
    if dataset.task == "panoptic":
        isthing = dataset.metadata["isthing"]
        things = [label for label, thing in zip(dataset.classes, isthing, strict=True) if thing]
        set_metadata(name, thing_classes=things, isthing=isthing)


def _describe(name: str, loaded: _Loaded) -> None:
    dataset = loaded.cleaned
    if dataset.annotates_pixels:
        _describe_pixels(name, dataset)
        return
    kind = "coco_rotated" if dataset.task == "rotated" else "coco"
    kind = dataset.metadata.get("evaluator_type", kind)  # a format may name its own evaluator
    ids = {number: index for index, number in enumerate(category_ids(dataset))}
    set_metadata(
        name,
        thing_classes=list(dataset.classes),
        thing_dataset_id_to_contiguous_id=ids,
        **({"json_file": str(loaded.coco_file)} if loaded.coco_file else {}),
        image_root=image_root(dataset.images),
        evaluator_type=kind,
        coco_tasks=_coco_tasks(dataset),
        **{key: value for key, value in dataset.metadata.items() if key in _POINTS},
    )
