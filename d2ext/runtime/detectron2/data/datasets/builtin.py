"""The built-in datasets, expected below the folder $DETECTRON2_DATASETS.

The folder is ./datasets by default. Nothing is read before a dataset is loaded.
"""

import functools
import os

from ..catalog import DatasetCatalog, MetadataCatalog
from .builtin_meta import ADE20K_SEM_SEG_CATEGORIES, _get_builtin_metadata
from .cityscapes import load_cityscapes_instances, load_cityscapes_semantic
from .cityscapes_panoptic import register_all_cityscapes_panoptic
from .coco import load_sem_seg, register_coco_instances
from .coco_panoptic import register_coco_panoptic, register_coco_panoptic_separated
from .lvis import get_lvis_instances_meta, register_lvis_instances
from .pascal_voc import register_pascal_voc

# Name's ending -> (image folder, ending of the annotation file).
_COCO_SPLITS = {
    "2014_train": ("train2014", "train2014"),
    "2014_val": ("val2014", "val2014"),
    "2014_minival": ("val2014", "minival2014"),
    "2014_valminusminival": ("val2014", "valminusminival2014"),
    "2017_train": ("train2017", "train2017"),
    "2017_val": ("val2017", "val2017"),
    "2017_val_100": ("val2017", "val2017_100"),
}
_COCO_TEST = {
    "2017_test": "image_info_test2017",
    "2017_test-dev": "image_info_test-dev2017",
}
_COCO_PANOPTIC_SPLITS = ("2017_train", "2017_val", "2017_val_100")

# Metadata -> name -> folder of images and file of annotations, below the root.
_PREDEFINED_SPLITS_COCO = {
    "coco": {
        f"coco_{split}": (f"coco/{images}", f"coco/annotations/{ending}.json")
        for split, images, ending in (
            *((split, i, f"instances_{ending}") for split, (i, ending) in _COCO_SPLITS.items()),
            *((split, "test2017", ending) for split, ending in _COCO_TEST.items()),
        )
    },
    "coco_person": {
        f"keypoints_coco_{split}": (
            f"coco/{images}",
            f"coco/annotations/person_keypoints_{ending}.json",
        )
        for split, (images, ending) in _COCO_SPLITS.items()
    },
}

# Beginning of the name -> endings of name and annotation file.
_LVIS_SPLITS = {
    "lvis_v1": {
        "train": "train",
        "val": "val",
        "test_dev": "image_info_test_dev",
        "test_challenge": "image_info_test_challenge",
    },
    "lvis_v0.5": {
        "train": "train",
        "val": "val",
        "val_rand_100": "val_rand_100",
        "test": "image_info_test",
        "train_cocofied": "train_cocofied",
        "val_cocofied": "val_cocofied",
    },
}


def register_all_coco(root: str) -> None:
    """Register COCO's detection, person keypoint and panoptic splits, below root/coco."""
    for family, splits in _PREDEFINED_SPLITS_COCO.items():
        for name, (images, annotations) in splits.items():
            paths = os.path.join(root, annotations), os.path.join(root, images)
            register_coco_instances(name, _get_builtin_metadata(family), *paths)
    for split in _COCO_PANOPTIC_SPLITS:
        _register_coco_panoptic(root, split)


def _register_coco_panoptic(root: str, split: str) -> None:
    images, ending = _COCO_SPLITS[split]
    name, coco = f"coco_{split}_panoptic", os.path.join(root, "coco")
    image_root = os.path.join(coco, images)
    panoptic_root = os.path.join(coco, f"panoptic_{ending}")
    panoptic_json = os.path.join(coco, f"annotations/panoptic_{ending}.json")
    instances_json = os.path.join(coco, f"annotations/instances_{ending}.json")
    register_coco_panoptic_separated(
        name,
        _get_builtin_metadata("coco_panoptic_separated"),
        image_root,
        panoptic_root,
        panoptic_json,
        os.path.join(coco, f"panoptic_stuff_{ending}"),
        instances_json,
    )
    register_coco_panoptic(
        name,
        _get_builtin_metadata("coco_panoptic_standard"),
        image_root,
        panoptic_root,
        panoptic_json,
        instances_json,
    )


def register_all_lvis(root: str) -> None:
    """Register the splits of LVIS v0.5 and v1: annotations in root/lvis, images in root/coco."""
    for version, splits in _LVIS_SPLITS.items():
        for split, ending in splits.items():
            register_lvis_instances(
                f"{version}_{split}",
                get_lvis_instances_meta(f"{version}_{split}"),
                os.path.join(root, f"lvis/{version}_{ending}.json"),
                os.path.join(root, "coco/"),
            )


def register_all_cityscapes(root: str) -> None:
    """Register the splits of Cityscapes for instances and semantic labels, in root/cityscapes."""
    meta = _get_builtin_metadata("cityscapes")
    for split in ("train", "val", "test"):
        image_dir = os.path.join(root, f"cityscapes/leftImg8bit/{split}/")
        gt_dir = os.path.join(root, f"cityscapes/gtFine/{split}/")
        name = f"cityscapes_fine_instance_seg_{split}"
        load = functools.partial(load_cityscapes_instances, image_dir, gt_dir)
        DatasetCatalog.register(name, load)
        MetadataCatalog.get(name).set(
            image_dir=image_dir, gt_dir=gt_dir, evaluator_type="cityscapes_instance", **meta
        )
        name = f"cityscapes_fine_sem_seg_{split}"
        load = functools.partial(load_cityscapes_semantic, image_dir, gt_dir)
        DatasetCatalog.register(name, load)
        MetadataCatalog.get(name).set(
            image_dir=image_dir,
            gt_dir=gt_dir,
            evaluator_type="cityscapes_sem_seg",
            ignore_label=255,
            **meta,
        )


def register_all_pascal_voc(root: str) -> None:
    """Register the splits of Pascal VOC 2007 and 2012, in root/VOC2007 and root/VOC2012."""
    splits = {2007: ("trainval", "train", "val", "test"), 2012: ("trainval", "train", "val")}
    for year, names in splits.items():
        for split in names:
            name = f"voc_{year}_{split}"
            register_pascal_voc(name, os.path.join(root, f"VOC{year}"), split, year)
            MetadataCatalog.get(name).evaluator_type = "pascal_voc"


def register_all_ade20k(root: str) -> None:
    """Register the splits of ADE20K, 150 semantic classes, in root/ADEChallengeData2016."""
    root = os.path.join(root, "ADEChallengeData2016")
    for split, folder in (("train", "training"), ("val", "validation")):
        name = f"ade20k_sem_seg_{split}"
        image_dir = os.path.join(root, "images", folder)
        gt_dir = os.path.join(root, "annotations_detectron2", folder)
        DatasetCatalog.register(name, functools.partial(load_sem_seg, gt_dir, image_dir))
        MetadataCatalog.get(name).set(
            stuff_classes=ADE20K_SEM_SEG_CATEGORIES[:],
            image_root=image_dir,
            sem_seg_root=gt_dir,
            evaluator_type="sem_seg",
            ignore_label=255,
        )


def _register_all(root: str) -> None:
    register_all_coco(root)
    register_all_lvis(root)
    register_all_cityscapes(root)
    register_all_cityscapes_panoptic(root)
    register_all_pascal_voc(root)
    register_all_ade20k(root)


_register_all(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
