"""The dataset mapper of the DETR family: resize at random, or crop first in half of the images.

Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, arXiv:2005.12872,
section 4 ("scale augmentation") and appendix A.4.
"""

from d2ext.data.mappers import register_mapper
from d2ext.data.mappers.default import (
    build_default_mapper,
    build_panoptic_mapper,
    build_train_mapper,
)
from d2ext.data.mappers.registry import Items, Mapper, Mode
from detectron2.config import CfgNode
from detectron2.data import transforms as T

NAME = "detr"
CROP_PROBABILITY = 0.5
SIZES_BEFORE_CROP = (400, 500, 600)  # shorter side in pixels


def build_detr_mapper(cfg: CfgNode, mode: Mode, items: Items) -> Mapper:
    """Build the default mapper, in training with the crop of `INPUT.CROP` in half of the images.

    Cropped images are first resized so that their shorter side is 400, 500 or 600 pixels; all are
    resized by `INPUT.MIN_SIZE_TRAIN` afterwards. Panoptic models get things and stuff.
    """
    all_segments = cfg.MODEL.DETR.PANOPTIC.ENABLED
    if mode != "train" or not cfg.INPUT.CROP.ENABLED:
        build = build_panoptic_mapper if all_segments else build_default_mapper
        return build(cfg, mode, items)
    uncropped = cfg.clone()
    uncropped.defrost()
    uncropped.INPUT.CROP.ENABLED = False
    mapper = build_train_mapper(uncropped, items, all_segments)
    mapper.augmentations = T.AugmentationList([_random_crop(cfg), *mapper.augmentations.augs])
    mapper.recompute_boxes = mapper.masks  # boxes enclose what the crop leaves of the masks
    return mapper


def _random_crop(cfg: CfgNode) -> T.Augmentation:
    resize = T.ResizeShortestEdge(SIZES_BEFORE_CROP, sample_style="choice")
    crop = T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE)
    return T.RandomApply(T.AugmentationList([resize, crop]), CROP_PROBABILITY)


register_mapper(NAME, build_detr_mapper)
