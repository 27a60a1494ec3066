"""The data sets that are known by name, expected below the folder $DETECTRON2_DATASETS.

The folder is ./datasets by default. Nothing is read before a data set is asked for.
"""

import os

from .builtin_meta import _get_builtin_metadata
from .coco import register_coco_instances

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


def _register(root: str, family: str, name: str, images: str, annotations: str) -> None:
    register_coco_instances(
        name,
        _get_builtin_metadata(family),
        os.path.join(root, f"coco/annotations/{annotations}.json"),
        os.path.join(root, f"coco/{images}"),
    )


def register_all_coco(root: str) -> None:
    """COCO's detection and person keypoint splits, with images and annotations in root/coco."""
    for split, (images, ending) in _COCO_SPLITS.items():
        _register(root, "coco", f"coco_{split}", images, f"instances_{ending}")
        _register(
            root, "coco_person", f"keypoints_coco_{split}", images, f"person_keypoints_{ending}"
        )
    for split, annotations in _COCO_TEST.items():
        _register(root, "coco", f"coco_{split}", "test2017", annotations)


register_all_coco(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
