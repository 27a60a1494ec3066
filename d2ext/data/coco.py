"""Data sets in COCO's format: registered by name, checked and read when first asked for."""

from functools import partial
from pathlib import Path
from typing import Any

from d2ext.data.repair import checked
from d2ext.errors import DataError
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BoxMode

_sources: dict[str, tuple[Path, Path]] = {}  # annotations and images of each registered name


def register_coco(name: str, annotations: Path | str, images: Path | str) -> None:
    """Make `name` usable in `DATASETS`. Reads nothing until the data set is asked for.

    Args:
        name: of the data set. Registering it again with the same paths changes nothing.
        annotations: a JSON in COCO's instances format.
        images: the folder that the JSON's file names start from.
    Raises:
        DataError: `name` is taken by another data set.
    """
    annotations, images = Path(annotations), Path(images)
    if name in DatasetCatalog.list():
        _refuse_other(name, annotations, images)
        return
    if name in _sources and name in MetadataCatalog.list():
        MetadataCatalog.remove(name)  # of a data set that was taken out of the catalog
    DatasetCatalog.register(name, partial(load_coco, name, annotations, images))
    _sources[name] = (annotations, images)
    describe(name, annotations, images)


def load_coco(name: str, annotations: Path, images: Path) -> list[dict[str, Any]]:
    """Detectron2's dicts of a COCO-format data set, faulty boxes dropped.

    The metadata's `json_file` becomes a file without these boxes, so that evaluation counts
    the same objects; it is the user's own where nothing had to be changed.

    Raises:
        DataError: the data cannot be used; see `d2ext.data.checks`.
        OutputError: the cache cannot be written.
    """
    readable = checked(name, annotations, images)
    dicts = load_coco_json(str(readable), str(images), name)
    rotated = any(len(item["bbox"]) == 5 for image in dicts for item in image["annotations"])
    if rotated:
        _mark_rotated(dicts)
    describe(name, readable, images, evaluator_type="coco_rotated" if rotated else "coco")
    return dicts


def describe(
    name: str, annotations: Path, images: Path, *, evaluator_type: str = "coco", **more: Any
) -> None:
    """Tell the metadata where the data of `name` is, for Detectron2's COCO evaluation."""
    metadata = MetadataCatalog.get(name)
    for key in ("json_file", "image_root", "evaluator_type"):
        if key in metadata.__dict__:
            delattr(metadata, key)  # Metadata refuses to change a value
    files = {"json_file": str(annotations), "image_root": str(images)}
    metadata.set(**files, evaluator_type=evaluator_type, **more)


def _mark_rotated(dicts: list[dict[str, Any]]) -> None:
    """Say of boxes of five numbers that they are XYWHA; those of four get an angle of 0."""
    for item in (item for image in dicts for item in image["annotations"]):
        if len(item["bbox"]) == 4:
            item["bbox"] = BoxMode.convert(item["bbox"], BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS)
        item["bbox_mode"] = BoxMode.XYWHA_ABS


def _refuse_other(name: str, annotations: Path, images: Path) -> None:
    known = _sources.get(name)
    if known != (annotations, images):
        where = f" for {known[0]} and {known[1]}" if known else ""
        raise DataError(
            f"{name}: a data set of this name is registered already{where}. Choose another name "
            f"for {annotations} and {images}."
        )
