"""LVIS's annotation files to Detectron2's dataset format."""

import functools
import json
import logging
import os
from collections import defaultdict
from typing import Any

from fvcore.common.timer import Timer

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from ..catalog import DatasetCatalog, MetadataCatalog
from .builtin_meta import _get_coco_instances_meta
from .lvis_v0_5_categories import LVIS_CATEGORIES as LVIS_V0_5_CATEGORIES
from .lvis_v1_categories import LVIS_CATEGORIES as LVIS_V1_CATEGORIES
from .lvis_v1_category_image_count import LVIS_CATEGORY_IMAGE_COUNT as LVIS_V1_CATEGORY_IMAGE_COUNT

__all__ = ["get_lvis_instances_meta", "load_lvis_json", "register_lvis_instances"]

logger = logging.getLogger(__name__)


def register_lvis_instances(
    name: str, metadata: dict[str, Any], json_file: str, image_root: str
) -> None:
    """Register an LVIS annotation file as dataset `name`; it is read when the dataset is loaded.

    Args:
        name: name of the dataset; `get_lvis_instances_meta` must know its prefix.
        metadata: further metadata.
        json_file: annotation file.
        image_root: folder of COCO's folders of images.
    """
    load = functools.partial(load_lvis_json, json_file, image_root, name)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        json_file=json_file, image_root=image_root, evaluator_type="lvis", **metadata
    )


def load_lvis_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    extra_annotation_keys: list[str] | None = None,
) -> list[dict]:
    """Load an LVIS annotation file. No image is opened.

    Args:
        json_file: LVIS's format, version 0.5 or 1.
        image_root: folder of COCO's folders of images (train2017, ...).
        dataset_name: dataset whose metadata gets the class names; see `get_lvis_instances_meta`.
        extra_annotation_keys: other keys of annotations to keep as they are.

    Returns:
        One dict per image, in the order of the images' ids, with "neg_category_ids" and
        "not_exhaustive_category_ids" as in the file and categories that count from 0.
    """
    timer = Timer()
    with PathManager.open(PathManager.get_local_path(str(json_file)), encoding="utf-8") as file:
        content = json.load(file)
    if timer.seconds() > 1:
        logger.info("Loading %s takes %.2f seconds.", json_file, timer.seconds())
    if dataset_name is not None:
        MetadataCatalog.get(dataset_name).set(**get_lvis_instances_meta(dataset_name))
    by_image = _annotations_by_image(content, str(json_file))
    images = sorted(content["images"], key=lambda image: image["id"])
    logger.info("Loaded %d images in the LVIS format from %s", len(images), json_file)
    keys = extra_annotation_keys or []
    return [
        {
            "file_name": os.path.join(image_root, _path_in_coco(image)),
            "height": image["height"],
            "width": image["width"],
            "not_exhaustive_category_ids": image.get("not_exhaustive_category_ids", []),
            "neg_category_ids": image.get("neg_category_ids", []),
            "image_id": image["id"],
            "annotations": [_load_object(found, keys) for found in by_image[image["id"]]],
        }
        for image in images
    ]


def _annotations_by_image(content: dict, json_file: str) -> dict[Any, list[dict]]:
    annotations = content.get("annotations", [])  # test sets have none
    if len({annotation["id"] for annotation in annotations}) != len(annotations):
        raise AssertionError(f"Annotation ids in '{json_file}' are not unique")
    by_image = defaultdict(list)
    for annotation in annotations:
        by_image[annotation["image_id"]].append(annotation)
    return by_image


def _path_in_coco(image: dict) -> str:
    """Return e.g. "train2017/000000000009.jpg": LVIS splits mix the folders of COCO."""
    if "coco_url" in image:
        return "/".join(image["coco_url"].split("/")[-2:])
    return image["file_name"]


def _load_object(annotation: dict, extra_keys: list[str]) -> dict:
    segmentation = annotation["segmentation"]
    if not segmentation:
        raise AssertionError(f"Annotation {annotation['id']} has no segmentation.")
    if any(len(polygon) % 2 or len(polygon) < 6 for polygon in segmentation):
        raise AssertionError(
            f"Annotation contains an invalid polygon with < 3 points: {annotation['id']}"
        )
    return {
        "bbox": annotation["bbox"],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": annotation["category_id"] - 1,
        "segmentation": segmentation,
        **{key: annotation[key] for key in extra_keys},
    }


def get_lvis_instances_meta(dataset_name: str) -> dict[str, Any]:
    """Return the class names, and the image counts of v1, by the prefix of a dataset's name.

    Args:
        dataset_name: "lvis_v1...", "lvis_v0.5..."; one with "cocofied" has COCO's 80 classes.
    """
    if "cocofied" in dataset_name:
        return _get_coco_instances_meta()
    if dataset_name.startswith("lvis_v0.5"):
        return {"thing_classes": _names(LVIS_V0_5_CATEGORIES)}
    if dataset_name.startswith("lvis_v1"):
        return {
            "thing_classes": _names(LVIS_V1_CATEGORIES),
            "class_image_count": LVIS_V1_CATEGORY_IMAGE_COUNT,
        }
    raise ValueError(
        f"No built-in metadata for dataset {dataset_name}: a name that begins with lvis_v1 or "
        "lvis_v0.5 has that version's classes."
    )


def _names(categories: list[dict[str, Any]]) -> list[str]:
    return [category["synonyms"][0] for category in categories]
