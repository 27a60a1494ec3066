"""COCO's panoptic annotation files to Detectron2's dataset format."""

import copy
import functools
import json
import os
from typing import Any

from detectron2.utils.file_io import PathManager

from ..catalog import DatasetCatalog, MetadataCatalog
from .coco import load_coco_json, load_sem_seg

__all__ = ["register_coco_panoptic", "register_coco_panoptic_separated"]


def load_coco_panoptic_json(
    json_file: str, image_dir: str, gt_dir: str, meta: dict[str, Any]
) -> list[dict]:
    """Load a panoptic annotation file; only the first image and label image are checked to exist.

    Args:
        json_file: COCO's panoptic format.
        image_dir: folder of images (.jpg).
        gt_dir: folder of label images.
        meta: with "thing_dataset_id_to_contiguous_id" and "stuff_dataset_id_to_contiguous_id".

    Returns:
        One dict per annotated image: "file_name", "image_id", "pan_seg_file_name" and
        "segments_info", whose categories are contiguous and marked by "isthing".
    """
    with PathManager.open(json_file, encoding="utf-8") as file:
        annotations = json.load(file)["annotations"]
    if not annotations:
        raise AssertionError(f"No annotations found in {json_file}.")
    loaded = [
        {
            "file_name": os.path.join(image_dir, os.path.splitext(found["file_name"])[0] + ".jpg"),
            "image_id": int(found["image_id"]),
            "pan_seg_file_name": os.path.join(gt_dir, found["file_name"]),
            "segments_info": [_contiguous(segment, meta) for segment in found["segments_info"]],
        }
        for found in annotations
    ]
    for key in ("file_name", "pan_seg_file_name"):
        if not PathManager.isfile(loaded[0][key]):
            raise AssertionError(f"{loaded[0][key]}: no such file, but {json_file} names it.")
    return loaded


def _contiguous(segment: dict, meta: dict[str, Any]) -> dict:
    """Return a copy of the segment with a contiguous category and "isthing"."""
    category, things = segment["category_id"], meta["thing_dataset_id_to_contiguous_id"]
    isthing = category in things
    numbers = things if isthing else meta["stuff_dataset_id_to_contiguous_id"]
    return {**segment, "category_id": numbers[category], "isthing": isthing}


def register_coco_panoptic(
    name: str,
    metadata: dict[str, Any],
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    instances_json: str | None = None,
) -> None:
    """Register a panoptic dataset in Detectron2's standard form.

    Args:
        name: name of the dataset.
        metadata: further metadata, with the numberings of things and stuff.
        image_root: folder of images.
        panoptic_root: folder of label images.
        panoptic_json: COCO's panoptic annotations.
        instances_json: COCO's instance annotations, to evaluate boxes and masks.
    """
    load = functools.partial(
        load_coco_panoptic_json, panoptic_json, image_root, panoptic_root, metadata
    )
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        panoptic_root=panoptic_root,
        image_root=image_root,
        panoptic_json=panoptic_json,
        json_file=instances_json,
        evaluator_type="coco_panoptic_seg",
        ignore_label=255,
        label_divisor=1000,
        **metadata,
    )


def register_coco_panoptic_separated(
    name: str,
    metadata: dict[str, Any],
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    sem_seg_root: str,
    instances_json: str,
) -> None:
    """Register `name` + "_separated" and `name` + "_stuffonly", on which Panoptic FPN trains.

    Objects are the polygons of the instance annotations. In the label images 0 is any thing, and
    stuff counts from 1. Source: Kirillov et al. 2019, arXiv:1901.02446.

    Args:
        name: prefix of both names.
        metadata: further metadata of both.
        image_root: folder of images.
        panoptic_root: folder of panoptic label images, for the evaluation.
        panoptic_json: COCO's panoptic annotations, for the evaluation.
        sem_seg_root: folder of semantic label images.
        instances_json: COCO's instance annotations.
    """
    separated, stuff_only = name + "_separated", name + "_stuffonly"
    load = functools.partial(_load_separated, instances_json, image_root, separated, sem_seg_root)
    DatasetCatalog.register(separated, load)
    MetadataCatalog.get(separated).set(
        panoptic_root=panoptic_root,
        image_root=image_root,
        panoptic_json=panoptic_json,
        sem_seg_root=sem_seg_root,
        json_file=instances_json,
        evaluator_type="coco_panoptic_seg",
        ignore_label=255,
        **metadata,
    )
    DatasetCatalog.register(stuff_only, functools.partial(load_sem_seg, sem_seg_root, image_root))
    MetadataCatalog.get(stuff_only).set(
        sem_seg_root=sem_seg_root,
        image_root=image_root,
        evaluator_type="sem_seg",
        ignore_label=255,
        **metadata,
    )


def _load_separated(
    instances_json: str, image_root: str, name: str, sem_seg_root: str
) -> list[dict]:
    return merge_to_panoptic(
        load_coco_json(instances_json, image_root, name), load_sem_seg(sem_seg_root, image_root)
    )


def merge_to_panoptic(detection_dicts: list[dict], sem_seg_dicts: list[dict]) -> list[dict]:
    """Merge two lists of images by "file_name".

    Args:
        detection_dicts: images with objects, which define the order.
        sem_seg_dicts: images with label images, for all of `detection_dicts`.

    Returns:
        Images with the keys of both.
    """
    if not detection_dicts:
        raise AssertionError("There are no images with objects to merge.")
    by_file = {image["file_name"]: image for image in sem_seg_dicts}
    missing = [d["file_name"] for d in detection_dicts if d["file_name"] not in by_file]
    if missing:
        raise KeyError(f"{len(missing)} images have no label image, e.g. {missing[0]}")
    return [{**by_file[d["file_name"]], **copy.copy(d)} for d in detection_dicts]
