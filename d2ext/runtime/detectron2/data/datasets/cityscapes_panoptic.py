"""Cityscapes' panoptic annotations in Detectron2's dataset format."""

import functools
import json
import os
from typing import Any

from detectron2.utils.file_io import PathManager

from ..catalog import DatasetCatalog, MetadataCatalog
from .builtin_meta import CITYSCAPES_CATEGORIES
from .cityscapes import check_train_ids, list_images
from .coco_panoptic import _contiguous

__all__ = ["load_cityscapes_panoptic", "register_all_cityscapes_panoptic"]

_SPLITS = ("train", "val")


def get_cityscapes_panoptic_files(
    image_dir: str, gt_dir: str, json_info: dict[str, Any]
) -> list[tuple[str, str, list[dict]]]:
    """List the image, panoptic label image and segments of every image."""
    by_image = {found["image_id"]: found for found in json_info["annotations"]}
    files = []
    for city, stem in list_images(image_dir):
        image_id = stem.removesuffix("_")
        if image_id not in by_image:
            raise KeyError(f"{image_id}: the panoptic annotations do not have this image.")
        found = by_image[image_id]
        image = os.path.join(image_dir, city, f"{image_id}_leftImg8bit.png")
        files.append((image, os.path.join(gt_dir, found["file_name"]), found["segments_info"]))
    for path in files[0][:2]:
        if not PathManager.isfile(path):
            raise AssertionError(f"{path}: no such file; is {gt_dir} the folder of label images?")
    return files


def load_cityscapes_panoptic(
    image_dir: str, gt_dir: str, gt_json: str, meta: dict[str, Any]
) -> list[dict]:
    """Load the panoptic annotations that Cityscapes' scripts make of its polygons.

    Args:
        image_dir: folder of cities with images, e.g. "leftImg8bit/train".
        gt_dir: folder of label images, e.g. "gtFine/cityscapes_panoptic_train".
        gt_json: annotations, e.g. "gtFine/cityscapes_panoptic_train.json".
        meta: with "thing_dataset_id_to_contiguous_id" and "stuff_dataset_id_to_contiguous_id".

    Returns:
        One dict per image: "file_name", "image_id", "sem_seg_file_name", "pan_seg_file_name" and
        "segments_info" with contiguous categories and "isthing".
    """
    if not os.path.exists(gt_json):
        raise AssertionError(
            f"{gt_json}: no such file. Please run "
            "`python cityscapesscripts/preparation/createPanopticImgs.py` to generate label files."
        )
    with open(gt_json, encoding="utf-8") as file:
        json_info = json.load(file)
    loaded: list[dict[str, Any]] = [
        {
            "file_name": image,
            "image_id": os.path.basename(image).removesuffix("_leftImg8bit.png"),
            "sem_seg_file_name": image.replace("leftImg8bit", "gtFine").removesuffix(".png")
            + "_labelTrainIds.png",
            "pan_seg_file_name": labels,
            "segments_info": [_contiguous(segment, meta) for segment in segments],
        }
        for image, labels, segments in get_cityscapes_panoptic_files(image_dir, gt_dir, json_info)
    ]
    check_train_ids(loaded[0]["sem_seg_file_name"])
    return loaded


def register_all_cityscapes_panoptic(root: str) -> None:
    """Register cityscapes_fine_panoptic_train and _val, with the data in root/cityscapes."""
    meta = _panoptic_meta()
    for split in _SPLITS:
        name = f"cityscapes_fine_panoptic_{split}"
        image_dir = os.path.join(root, f"cityscapes/leftImg8bit/{split}")
        gt_dir = os.path.join(root, f"cityscapes/gtFine/cityscapes_panoptic_{split}")
        gt_json = gt_dir + ".json"
        load = functools.partial(load_cityscapes_panoptic, image_dir, gt_dir, gt_json, meta)
        DatasetCatalog.register(name, load)
        MetadataCatalog.get(name).set(
            panoptic_root=gt_dir,
            image_root=image_dir,
            panoptic_json=gt_json,
            gt_dir=os.path.join(root, f"cityscapes/gtFine/{split}"),
            evaluator_type="cityscapes_panoptic_seg",
            ignore_label=255,
            label_divisor=1000,
            **meta,
        )


def _panoptic_meta() -> dict[str, Any]:
    """Build metadata in which things and stuff share the numbering of the semantic labels."""
    names = [category["name"] for category in CITYSCAPES_CATEGORIES]
    colors = [category["color"] for category in CITYSCAPES_CATEGORIES]

    def numbering(isthing: int) -> dict[int, int]:
        return {c["id"]: c["trainId"] for c in CITYSCAPES_CATEGORIES if c["isthing"] == isthing}

    return {
        "thing_classes": names,
        "thing_colors": colors,
        "stuff_classes": names,
        "stuff_colors": colors,
        "thing_dataset_id_to_contiguous_id": numbering(1),
        "stuff_dataset_id_to_contiguous_id": numbering(0),
    }
