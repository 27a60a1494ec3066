"""The dataset mapper of MaskFormer and Mask2Former: large-scale jitter, or resize and crop.

Source: Cheng et al., "MaskFormer", 2021, arXiv:2107.06278, section 4.1; "Mask2Former", 2022,
arXiv:2112.01527, section 4.1; Ghiasi et al., "Simple Copy-Paste", 2021, arXiv:2012.07177 (jitter).
"""

from d2ext.data.mappers import register_mapper
from d2ext.data.mappers.default import (
    build_default_mapper,
    build_panoptic_mapper,
    build_train_mapper,
)
from d2ext.data.mappers.registry import Items, Mapper, Mode
from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform

NAME = "maskformer"
IGNORED = 0  # label of pixels without a class while augmentations run, see `AnnotationTransform`


def build_maskformer_mapper(cfg: CfgNode, mode: Mode, items: Items) -> Mapper:
    """Build the default mapper, in training with the augmentations of the papers if asked for.

    `INPUT.MASK_FORMER.SCALE_JITTER` asks for large-scale jitter, `INPUT.CROP.ENABLED` for a crop
    after the resizing, `COLOR_SSD` for colours; without these the default mapper is built.

    Raises:
        ConfigError: crops are limited by the area of a class, which instance masks do not tell.
    """
    jitter, crop = bool(cfg.INPUT.MASK_FORMER.SCALE_JITTER), cfg.INPUT.CROP.ENABLED
    all_segments = cfg.MODEL.MASK_FORMER.TASK == "panoptic"
    if mode != "train" or not (jitter or crop or cfg.INPUT.MASK_FORMER.COLOR_SSD):
        build = build_panoptic_mapper if all_segments else build_default_mapper
        return build(cfg, mode, items)
    mapper = build_train_mapper(cfg, items, all_segments)
    mapper.augmentations = T.AugmentationList(_augmentations(cfg))
    mapper.recompute_boxes = mapper.masks  # boxes enclose what the crop leaves of the masks
    return mapper


def _augmentations(cfg: CfgNode) -> list[T.Augmentation | T.Transform]:
    options = cfg.INPUT.MASK_FORMER
    resized = _scale_jitter(cfg) if options.SCALE_JITTER else _resize_and_crop(cfg)
    colors = [ColorAugSSDTransform(img_format=cfg.INPUT.FORMAT)] if options.COLOR_SSD else []
    return [*resized, *colors, T.RandomFlip()]


def _scale_jitter(cfg: CfgNode) -> list[T.Augmentation]:
    options = cfg.INPUT.MASK_FORMER
    smallest, largest = options.SCALE_JITTER
    square = options.SIZE, options.SIZE
    return [
        T.ResizeScale(smallest, largest, *square),
        T.FixedSizeCrop(square, seg_pad_value=IGNORED),
    ]


def _resize_and_crop(cfg: CfgNode) -> list[T.Augmentation]:
    sizes, crop = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.CROP
    style = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    resize = T.ResizeShortestEdge(sizes, cfg.INPUT.MAX_SIZE_TRAIN, style)
    if not crop.ENABLED:
        return [resize]
    limit = cfg.INPUT.MASK_FORMER.SINGLE_CATEGORY_MAX_AREA
    cut: T.Augmentation = T.RandomCrop(crop.TYPE, crop.SIZE)
    if limit < 1:
        if cfg.MODEL.MASK_FORMER.TASK == "instance":
            raise ConfigError(
                f"INPUT.MASK_FORMER.SINGLE_CATEGORY_MAX_AREA is {limit}, but instance masks do not "
                "tell the class of every pixel: set it to 1, or MODEL.MASK_FORMER.TASK to another."
            )
        cut = T.RandomCrop_CategoryAreaConstraint(crop.TYPE, crop.SIZE, limit, IGNORED)
    return [resize, cut]


register_mapper(NAME, build_maskformer_mapper)
