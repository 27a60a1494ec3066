"""Pascal VOC's folders to Detectron2's dataset format."""

import functools
import os
import xml.etree.ElementTree as ET

import numpy as np

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from ..catalog import DatasetCatalog, MetadataCatalog

__all__ = ["load_voc_instances", "register_pascal_voc"]

# fmt: off
CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)
# fmt: on


def load_voc_instances(
    dirname: str, split: str, class_names: list[str] | tuple[str, ...]
) -> list[dict]:
    """Load the boxes of a split. No image is opened.

    Args:
        dirname: folder with "Annotations", "ImageSets" and "JPEGImages".
        split: name of a list in ImageSets/Main: "train", "val", "trainval" or "test".
        class_names: class names in the order of their indices.

    Returns:
        One dict per image in the list's order, with all objects, also difficult ones.
    """
    with PathManager.open(os.path.join(dirname, "ImageSets", "Main", f"{split}.txt")) as file:
        stems = np.loadtxt(file, dtype=str, ndmin=1)
    annotations = PathManager.get_local_path(os.path.join(dirname, "Annotations/"))
    return [_load_image(dirname, annotations, str(stem), class_names) for stem in stems]


def _load_image(
    dirname: str, annotations: str, stem: str, class_names: list[str] | tuple[str, ...]
) -> dict:
    with PathManager.open(os.path.join(annotations, f"{stem}.xml")) as file:
        tree = ET.parse(file).getroot()
    return {
        "file_name": os.path.join(dirname, "JPEGImages", f"{stem}.jpg"),
        "image_id": stem,
        "height": int(_text(tree, "./size/height")),
        "width": int(_text(tree, "./size/width")),
        "annotations": [_load_object(found, class_names) for found in tree.findall("object")],
    }


def _load_object(found: ET.Element, class_names: list[str] | tuple[str, ...]) -> dict:
    xmin, ymin, xmax, ymax = (
        float(_text(found, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")
    )
    return {
        "category_id": class_names.index(_text(found, "name")),
        # VOC counts pixels from 1 and includes the last one.
        "bbox": [xmin - 1.0, ymin - 1.0, xmax, ymax],
        "bbox_mode": BoxMode.XYXY_ABS,
    }


def _text(found: ET.Element, path: str) -> str:
    text = found.findtext(path)
    if text is None:
        raise ValueError(f"An annotation of Pascal VOC lacks {path}.")
    return text


def register_pascal_voc(
    name: str,
    dirname: str,
    split: str,
    year: int,
    class_names: list[str] | tuple[str, ...] = CLASS_NAMES,
) -> None:
    """Register a split of Pascal VOC; see `load_voc_instances`.

    Args:
        name: name of the dataset.
        dirname, split, class_names: see `load_voc_instances`.
        year: 2007 or 2012, which selects the definition of AP.
    """
    load = functools.partial(load_voc_instances, dirname, split, class_names)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        thing_classes=list(class_names), dirname=dirname, year=year, split=split
    )
