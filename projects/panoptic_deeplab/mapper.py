"""The dataset mapper of Panoptic-DeepLab, as d2ext's commands ask for it."""

from d2ext.data.mappers import register_mapper
from d2ext.data.mappers.default import build_default_mapper
from d2ext.data.mappers.registry import Items, Mapper, Mode
from detectron2.config import CfgNode
from detectron2.data.detection_utils import build_augmentation

NAME = "panoptic_deeplab"


def build_panoptic_deeplab_mapper(cfg: CfgNode, mode: Mode, items: Items) -> Mapper:
    """Build Detectron2's mapper, for the validation loss with the resizing of the test.

    The data have Detectron2's "pan_seg_file_name" and "segments_info", and their metadata
    "thing_dataset_id_to_contiguous_id" and "label_divisor".
    """
    # Not above: the official project imports panopticapi, which this file must not need.
    from detectron2.projects.panoptic_deeplab import PanopticDeeplabDatasetMapper

    if mode == "test":
        return build_default_mapper(cfg, mode, items)
    if mode == "validation":
        augmentations = build_augmentation(cfg, is_train=False)
        return PanopticDeeplabDatasetMapper(cfg, augmentations=augmentations)
    return PanopticDeeplabDatasetMapper(cfg)


register_mapper(NAME, build_panoptic_deeplab_mapper)
