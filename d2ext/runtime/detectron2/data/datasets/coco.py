"""COCO's annotation files to Detectron2's dataset format, and back."""

import datetime
import functools
import json
import logging
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from fvcore.common.timer import Timer
from iopath.common.file_io import file_lock

from detectron2.structures import Boxes, BoxMode, PolygonMasks, RotatedBoxes
from detectron2.utils.file_io import PathManager
from detectron2.utils.run_lengths import check_run_lengths

from ..catalog import DatasetCatalog, MetadataCatalog

__all__ = [
    "convert_to_coco_dict",
    "convert_to_coco_json",
    "load_coco_json",
    "load_sem_seg",
    "register_coco_instances",
]

logger = logging.getLogger(__name__)


def load_coco_json(
    json_file: str | os.PathLike,
    image_root: str | os.PathLike,
    dataset_name: str | None = None,
    extra_annotation_keys: list[str] | None = None,
) -> list[dict]:
    """Load a COCO annotation file: boxes, segmentations, keypoints. No image is opened.

    Args:
        json_file: COCO's instances or person_keypoints format, UTF-8.
        image_root: folder of the file's images.
        dataset_name: dataset whose metadata gets "thing_classes" and
            "thing_dataset_id_to_contiguous_id". With a name, categories are renumbered from 0 in
            the order of their ids; without, they keep their ids.
        extra_annotation_keys: other keys of annotations to keep as they are.

    Returns:
        One dict per image, in the order of the images' ids, also for images without annotations.
    """
    timer = Timer()
    with PathManager.open(PathManager.get_local_path(str(json_file)), encoding="utf-8") as file:
        content = json.load(file)
    if timer.seconds() > 1:
        logger.info("Loading %s takes %.2f seconds.", json_file, timer.seconds())
    id_map = None if dataset_name is None else _set_classes(content, dataset_name)
    _check_annotation_ids(content, str(json_file))
    by_image = defaultdict(list)
    for annotation in content.get("annotations", []):
        by_image[annotation["image_id"]].append(annotation)
    images = {image["id"]: image for image in content["images"]}
    logger.info("Loaded %d images in COCO format from %s", len(images), json_file)
    keys = ["iscrowd", "bbox", "keypoints", "category_id", *(extra_annotation_keys or [])]
    loaded = []
    for image_id, image in sorted(images.items()):
        objects = [_load_object(annotation, keys, id_map) for annotation in by_image[image_id]]
        loaded.append(
            {
                "file_name": os.path.join(image_root, image["file_name"]),
                "height": image["height"],
                "width": image["width"],
                "image_id": image_id,
                "annotations": [found for found in objects if found is not None],
            }
        )
    _warn_of_dropped(by_image, loaded)
    return loaded


def _set_classes(content: dict, dataset_name: str) -> dict[int, int]:
    """Set the class names in the metadata and return category id -> contiguous id."""
    categories = {category["id"]: category for category in content.get("categories", [])}
    ids = sorted(categories)
    id_map = {category_id: index for index, category_id in enumerate(ids)}
    meta = MetadataCatalog.get(dataset_name)
    meta.thing_classes = [categories[category_id]["name"] for category_id in ids]
    if ids != list(range(1, len(ids) + 1)) and "coco" not in dataset_name:
        logger.warning(
            "Category ids in annotations are not in [1, #categories]! "
            "We'll apply a mapping for you: they are renumbered from 0 in ascending order."
        )
    meta.thing_dataset_id_to_contiguous_id = id_map
    return id_map


def _check_annotation_ids(content: dict, json_file: str) -> None:
    ids = [annotation["id"] for annotation in content.get("annotations", [])]
    # COCO's own minival files of 2014 repeat ids.
    if len(set(ids)) != len(ids) and "minival" not in json_file:
        raise AssertionError(f"Annotation ids in '{json_file}' are not unique!")


def _load_object(annotation: dict, keys: list[str], id_map: dict[int, int] | None) -> dict | None:
    """Convert one annotation; None if none of its polygons is valid."""
    if annotation.get("ignore", 0) != 0:
        raise AssertionError('"ignore" in COCO json file is not supported.')
    loaded = {key: annotation[key] for key in keys if key in annotation}
    if "bbox" in loaded and len(loaded["bbox"]) == 0:
        raise ValueError(
            f"Annotation {annotation.get('id')} of image {annotation['image_id']} has an empty "
            "'bbox'! This is not valid COCO format."
        )
    if annotation.get("segmentation"):
        loaded["segmentation"] = _load_segmentation(annotation)
        if not loaded["segmentation"]:
            return None
    if loaded.get("keypoints"):
        # COCO's keypoints are indices of pixels, coordinates are half a pixel more.
        points = loaded["keypoints"]
        loaded["keypoints"] = [v if i % 3 == 2 else v + 0.5 for i, v in enumerate(points)]
    loaded["bbox_mode"] = BoxMode.XYWH_ABS
    if id_map is not None:
        loaded["category_id"] = _contiguous(annotation, id_map)
    return loaded


def _contiguous(annotation: dict, id_map: dict[int, int]) -> int:
    try:
        return id_map[annotation["category_id"]]
    except KeyError as error:
        raise KeyError(
            f"Encountered category_id={annotation.get('category_id')} in annotation "
            f"{annotation.get('id')}, but this id does not exist in 'categories' of the json file."
        ) from error


def _load_segmentation(annotation: dict) -> Any:
    """Return polygons of at least three points, or a compressed RLE."""
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, dict):
        try:
            return check_run_lengths(segmentation)
        except ValueError as error:
            raise ValueError(
                f"Annotation {annotation.get('id')} of image {annotation['image_id']}: {error}."
            ) from error
    return [polygon for polygon in segmentation if len(polygon) % 2 == 0 and len(polygon) >= 6]


def _warn_of_dropped(by_image: dict[Any, list], loaded: list[dict]) -> None:
    known = {image["image_id"] for image in loaded}
    strays = sum(len(found) for image_id, found in by_image.items() if image_id not in known)
    if strays:
        logger.warning("%d annotations belong to images that the json file does not list.", strays)
    kept = sum(len(image["annotations"]) for image in loaded)
    dropped = sum(map(len, by_image.values())) - strays - kept
    if dropped:
        logger.warning(
            "Filtered out %d instances without valid segmentation. There might be issues in your "
            "dataset generation process: a polygon needs at least 3 points.",
            dropped,
        )


def load_sem_seg(
    gt_root: str, image_root: str, gt_ext: str = "png", image_ext: str = "jpg"
) -> list[dict]:
    """Pair images with label images by their relative paths without extensions.

    Args:
        gt_root: folder of label images, whose pixel values are categories.
        image_root: folder of images.
        gt_ext: file extension of label images.
        image_ext: file extension of images.

    Returns:
        One dict per pair: "file_name" and "sem_seg_file_name".
    """
    labels = _files_by_stem(gt_root, gt_ext)
    images = _files_by_stem(image_root, image_ext)
    if not labels:
        raise AssertionError(f"No annotations found in {gt_root}.")
    if labels.keys() != images.keys():
        logger.warning(
            "Directory %s has %d and %s has %d files; only the pairs are used.",
            image_root,
            len(images),
            gt_root,
            len(labels),
        )
    stems = sorted(labels.keys() & images.keys())
    logger.info("Loaded %d images with semantic segmentation from %s", len(stems), image_root)
    return [{"file_name": images[s], "sem_seg_file_name": labels[s]} for s in stems]


def _files_by_stem(root: str, extension: str) -> dict[str, str]:
    names = (name for name in PathManager.ls(root) if name.endswith(extension))
    return {os.path.splitext(name)[0]: os.path.join(root, name) for name in names}


def convert_to_coco_dict(dataset_name: str) -> dict[str, Any]:
    """Convert a registered dataset with "thing_classes" to the content of a COCO file.

    Boxes become XYWH (rotated ones XYWHA) rounded to thousandths; areas are those of the
    segmentations where there are any.
    """
    images = DatasetCatalog.get(dataset_name)
    meta = MetadataCatalog.get(dataset_name)
    to_contiguous = meta.get("thing_dataset_id_to_contiguous_id", {})
    dataset_id = {contiguous: original for original, contiguous in to_contiguous.items()}
    categories = [
        {"id": dataset_id.get(i, i), "name": name} for i, name in enumerate(meta.thing_classes)
    ]
    logger.info("Converting dataset dicts into COCO format")
    coco_images: list[dict] = []
    annotations: list[dict] = []
    for position, image in enumerate(images):
        image_id = image.get("image_id", position)
        coco_images.append(
            {
                "id": image_id,
                "width": int(image["width"]),
                "height": int(image["height"]),
                "file_name": str(image["file_name"]),
            }
        )
        for annotation in image.get("annotations", []):
            category = annotation["category_id"]
            head = {"id": len(annotations) + 1, "image_id": image_id}
            head["category_id"] = int(dataset_id.get(category, category))
            annotations.append({**head, **_coco_annotation(annotation)})
    logger.info("Conversion finished, #images: %d, #annots: %d", len(images), len(annotations))
    info = {
        "date_created": str(datetime.datetime.now()),
        "description": "Automatically generated COCO json file for Detectron2.",
    }
    content = {"info": info, "images": coco_images, "categories": categories, "licenses": None}
    return {**content, "annotations": annotations} if annotations else content


def _coco_annotation(annotation: dict) -> dict[str, Any]:
    box = annotation["bbox"]
    if isinstance(box, np.ndarray):
        if box.ndim != 1:
            raise ValueError(f"bbox has to be 1-dimensional. Got shape={box.shape}.")
        box = box.tolist()
    if len(box) not in (4, 5):
        raise ValueError(f"bbox has to has length 4 or 5. Got {box}.")
    mode = annotation["bbox_mode"]
    wanted = BoxMode.XYWH_ABS if len(box) == 4 else BoxMode.XYWHA_ABS
    box = BoxMode.convert(box, mode, wanted)
    area, segmentation = _area_and_segmentation(annotation.get("segmentation"), box, wanted)
    converted: dict[str, Any] = {
        "bbox": [round(float(value), 3) for value in box],
        "area": float(area),
        "iscrowd": int(annotation.get("iscrowd", 0)),
    }
    if segmentation is not None:
        converted["segmentation"] = segmentation
    if "keypoints" in annotation:
        points = annotation["keypoints"]
        shifted = [v if i % 3 == 2 else v - 0.5 for i, v in enumerate(points)]
        visible = sum(1 for visibility in points[2::3] if visibility > 0)
        converted["keypoints"] = shifted
        converted["num_keypoints"] = annotation.get("num_keypoints", visible)
    return converted


def _area_and_segmentation(segmentation: Any, box: Any, mode: BoxMode) -> tuple[float, Any]:
    if not segmentation:
        if mode == BoxMode.XYWHA_ABS:
            return RotatedBoxes([box]).area()[0].item(), None
        return Boxes([BoxMode.convert(box, mode, BoxMode.XYXY_ABS)]).area()[0].item(), None
    if isinstance(segmentation, list):
        return PolygonMasks([segmentation]).area()[0].item(), segmentation
    if not isinstance(segmentation, dict):
        raise TypeError(f"Unknown segmentation type {type(segmentation)}!")
    area = mask_util.area(check_run_lengths(segmentation)).item()
    counts = segmentation["counts"]
    if isinstance(counts, bytes):  # JSON has no bytes
        segmentation = {**segmentation, "counts": counts.decode("ascii")}
    return area, segmentation


def convert_to_coco_json(dataset_name: str, output_file: str, allow_cached: bool = True) -> None:
    """Convert a registered dataset to a COCO file.

    Args:
        dataset_name: see `convert_to_coco_dict`.
        output_file: path of the file.
        allow_cached: keep an existing file.
    """
    PathManager.mkdirs(os.path.dirname(output_file))
    with file_lock(output_file):
        if PathManager.exists(output_file) and allow_cached:
            logger.warning(
                "Using previously cached COCO format annotations at '%s'. You need to clear the "
                "cache file if your dataset has been modified.",
                output_file,
            )
            return
        logger.info("Converting annotations of dataset '%s' to COCO format ...", dataset_name)
        temporary = Path(output_file + ".tmp")
        temporary.write_text(json.dumps(convert_to_coco_dict(dataset_name)), encoding="utf-8")
        os.replace(temporary, output_file)


def register_coco_instances(
    name: str, metadata: dict[str, Any], json_file: str | os.PathLike, image_root: str | os.PathLike
) -> None:
    """Register a COCO annotation file as dataset `name`; it is read when the dataset is loaded.

    A registered name keeps its dataset, and its metadata must agree.

    Args:
        name: e.g. "coco_2014_train".
        metadata: further metadata, may be empty.
        json_file: see `load_coco_json`.
        image_root: folder of the images.
    """
    for value, kinds in (
        (name, str),
        (json_file, (str, os.PathLike)),
        (image_root, (str, os.PathLike)),
    ):
        if not isinstance(value, kinds):
            raise AssertionError(f"expected a path or a name, got {value!r}")
    if name not in DatasetCatalog:
        load = functools.partial(load_coco_json, json_file, image_root, name)
        DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata
    )
