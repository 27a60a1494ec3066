"""Refusal of training data that have nothing to learn from."""

from d2ext.data.statistics import dataset_stats
from d2ext.errors import DataError
from detectron2.config import CfgNode


def check_learnable(cfg: CfgNode) -> None:
    """Check that the training data have an object that the model can learn from.

    Raises:
        DataError: there are crowd regions or empty images alone, all objects are marked difficult,
            or no keypoint of a model of keypoints is labelled.
    """
    names = ", ".join(cfg.DATASETS.TRAIN)
    stats = dataset_stats(cfg.DATASETS.TRAIN)
    if not stats.num_objects and stats.empty_images:
        raise DataError(
            f"{names}: no annotations to learn from, crowd regions aside, which training leaves "
            'out. CVAT marks the masks of its brush as crowd regions: set "iscrowd" to 0 in the '
            "file where they are single objects."
        )
    if stats.num_objects and stats.num_difficult == stats.num_objects:
        raise DataError(
            f"{names}: nothing to learn from: all {stats.num_objects} objects are marked "
            "difficult. Remove the mark of those that should be learned."
        )
    if cfg.MODEL.KEYPOINT_ON and stats.num_keypoints and not stats.labelled_keypoints:
        raise DataError(
            f"{names}: nothing to learn from: no keypoint is labelled; the visibility of all is 0. "
            "Set it to 1 (hidden) or 2 (visible) where a point is given."
        )
