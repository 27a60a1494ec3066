"""Cityscapes in Detectron2's dataset format: instances and semantic labels.

Source: Cordts et al. 2016, arXiv:1604.01685; https://github.com/mcordts/cityscapesScripts.
"""

import functools
import json
import logging
import multiprocessing
import os
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
from PIL import Image
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from detectron2.structures import BoxMode
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from .builtin_meta import CITYSCAPES_CATEGORIES, CITYSCAPES_LABELS

__all__ = ["load_cityscapes_instances", "load_cityscapes_semantic"]

logger = logging.getLogger(__name__)

_IMAGE_ENDING = "leftImg8bit.png"
# An object's own number follows its category's in an instance image; groups have only the latter.
_INSTANCES_PER_CATEGORY = 1000
_CONTIGUOUS = {
    category["id"]: index
    for index, category in enumerate(c for c in CITYSCAPES_CATEGORIES if c["isthing"])
}


def list_images(image_dir: str) -> list[tuple[str, str]]:
    """List (city, path up to "leftImg8bit.png") of all images in the folders of cities."""
    found = []
    for city in sorted(PathManager.ls(image_dir)):
        for name in sorted(PathManager.ls(os.path.join(image_dir, city))):
            if not name.endswith(_IMAGE_ENDING):
                raise AssertionError(
                    f"{os.path.join(image_dir, city, name)}: expected a name that ends in "
                    f"{_IMAGE_ENDING}."
                )
            found.append((city, name[: -len(_IMAGE_ENDING)]))
    if not found:
        raise AssertionError(f"No images found in {image_dir}.")
    return found


def _get_cityscapes_files(image_dir: str, gt_dir: str) -> list[tuple[str, str, str, str]]:
    """List the image, instance image, label image and polygon file of every image."""
    files = []
    for city, stem in list_images(image_dir):
        truth = os.path.join(gt_dir, city, stem)
        image = os.path.join(image_dir, city, stem + _IMAGE_ENDING)
        instances, labels = f"{truth}gtFine_instanceIds.png", f"{truth}gtFine_labelIds.png"
        files.append((image, instances, labels, f"{truth}gtFine_polygons.json"))
    for path in files[0]:
        if not PathManager.isfile(path):
            raise AssertionError(f"{path}: no such file; is {gt_dir} the folder of annotations?")
    return files


def load_cityscapes_instances(
    image_dir: str, gt_dir: str, from_json: bool = True, to_polygons: bool = True
) -> list[dict]:
    """Load the objects of the eight categories with instances, the foremost first.

    Args:
        image_dir: folder of cities with images, e.g. "leftImg8bit/train".
        gt_dir: folder of cities with annotations, e.g. "gtFine/train".
        from_json: read the polygons, minus the parts hidden by objects in front, instead of the
            instance images.
        to_polygons: return polygons, otherwise masks as RLE.

    Returns:
        One dict per image; groups have "iscrowd" set.
    """
    if from_json and not to_polygons:
        raise AssertionError(
            "Cityscapes's json annotations are polygons: read masks with from_json=False."
        )
    files = _get_cityscapes_files(image_dir, gt_dir)
    logger.info("Preprocessing cityscapes annotations ...")
    load = functools.partial(
        _cityscapes_files_to_dict, from_json=from_json, to_polygons=to_polygons
    )
    processes = min(max((os.cpu_count() or 1) // comm.get_world_size() // 2, 1), len(files))
    if processes == 1:
        loaded = [load(paths) for paths in files]
    else:
        with multiprocessing.Pool(processes) as pool:
            loaded = pool.map(load, files)
    logger.info("Loaded %d images from %s", len(loaded), image_dir)
    return loaded


def load_cityscapes_semantic(image_dir: str, gt_dir: str) -> list[dict]:
    """Pair images with label images, which Cityscapes' scripts make of its polygons.

    Args:
        image_dir, gt_dir: see `load_cityscapes_instances`.

    Returns:
        One dict per image, with "sem_seg_file_name".
    """
    loaded = []
    for image, _, labels, polygons in _get_cityscapes_files(image_dir, gt_dir):
        with PathManager.open(polygons, encoding="utf-8") as file:
            content = json.load(file)
        loaded.append(
            {
                "file_name": image,
                "sem_seg_file_name": labels.replace("labelIds", "labelTrainIds"),
                "height": content["imgHeight"],
                "width": content["imgWidth"],
            }
        )
    check_train_ids(loaded[0]["sem_seg_file_name"])
    return loaded


def check_train_ids(path: str) -> None:
    """Raise an error that says how to create the label images if they are missing."""
    if not PathManager.isfile(path):
        raise AssertionError(
            f"{path}: no such file. Please generate labelTrainIds.png with "
            "cityscapesscripts/preparation/createTrainIdLabelImgs.py"
        )


def _cityscapes_files_to_dict(
    files: tuple[str, str, str, str], from_json: bool, to_polygons: bool
) -> dict[str, Any]:
    image, instances, _, polygons = files
    if from_json:
        with PathManager.open(polygons, encoding="utf-8") as file:
            content = json.load(file)
        height, width = content["imgHeight"], content["imgWidth"]
        annotations = _visible_objects(content["objects"])
    else:
        with PathManager.open(instances, "rb") as file:
            pixels = np.asarray(Image.open(file))
        height, width = pixels.shape
        annotations = _objects_in(pixels, to_polygons)
    return {
        "file_name": image,
        "image_id": os.path.basename(image),
        "height": height,
        "width": width,
        "annotations": annotations,
    }


def _visible_objects(objects: list[dict]) -> list[dict]:
    """Yield the visible parts of polygons; Cityscapes lists objects from back to front."""
    annotations = []
    in_front: BaseGeometry = Polygon()
    for item in reversed(objects):
        if "deleted" in item:
            continue
        category, is_group = _category_of(item["label"])
        if category < 0:  # licence plates lie on what they belong to
            continue
        # Corners are pixels' indices: the outline runs around these pixels.
        outline = Polygon(np.asarray(item["polygon"]) + 0.5).buffer(0.5, quad_segs=4)
        if category in _CONTIGUOUS:
            visible = outline.difference(in_front)
            if not visible.is_empty:
                annotations.append(_as_annotation(visible, category, is_group))
        in_front = in_front.union(outline)
    return annotations


def _category_of(label: str) -> tuple[int, bool]:
    """Split a label into its category and whether it is a group, e.g. "cargroup"."""
    if label in CITYSCAPES_LABELS:
        return CITYSCAPES_LABELS[label], False
    if label.removesuffix("group") not in CITYSCAPES_LABELS:
        raise KeyError(f"{label}: not a label of Cityscapes.")
    return CITYSCAPES_LABELS[label.removesuffix("group")], True


def _as_annotation(visible: BaseGeometry, category: int, is_group: bool) -> dict[str, Any]:
    parts = visible.geoms if isinstance(visible, MultiPolygon) else [visible]
    return {
        "iscrowd": is_group,
        "category_id": _CONTIGUOUS[category],
        "segmentation": [np.asarray(part.exterior.coords).reshape(-1).tolist() for part in parts],
        "bbox": visible.bounds,
        "bbox_mode": BoxMode.XYXY_ABS,
    }


def _objects_in(pixels: np.ndarray, to_polygons: bool) -> list[dict]:
    """Read the objects of an instance image; slivers without area are dropped."""
    annotations = []
    for value in np.unique(pixels[pixels >= min(_CONTIGUOUS)]).tolist():
        is_group = value < _INSTANCES_PER_CATEGORY
        category = value if is_group else value // _INSTANCES_PER_CATEGORY
        if category not in _CONTIGUOUS:
            continue
        mask = np.asfortranarray(pixels == value, dtype=np.uint8)
        ys, xs = mask.nonzero()
        box = int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())
        segmentation = _outlines(mask) if to_polygons else mask_util.encode(mask)
        if box[0] == box[2] or box[1] == box[3] or not segmentation:
            continue
        annotations.append(
            {
                "iscrowd": is_group,
                "category_id": _CONTIGUOUS[category],
                "segmentation": segmentation,
                "bbox": box,
                "bbox_mode": BoxMode.XYXY_ABS,
            }
        )
    return annotations


def _outlines(mask: np.ndarray) -> list[list[float]]:
    contours, _ = cv2.findContours(
        np.ascontiguousarray(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    return [contour.reshape(-1).tolist() for contour in contours if len(contour) >= 3]
