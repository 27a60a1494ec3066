"""Augmentations of training images beyond those that Detectron2's config can name."""

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T


def build_train_mapper(cfg: CfgNode) -> DatasetMapper:
    """Detectron2's mapper; after its own crop, resizing and flip come `extra_augmentations`."""
    options = DatasetMapper.from_config(cfg, is_train=True)
    options["augmentations"] += extra_augmentations(cfg)
    return DatasetMapper(**options)


def extra_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """What `INPUT.VERTICAL_FLIP` and `INPUT.COLOR_JITTER` ask for; by default nothing."""
    steps: list[T.Augmentation] = []
    if cfg.INPUT.VERTICAL_FLIP > 0:
        steps.append(T.RandomFlip(cfg.INPUT.VERTICAL_FLIP, horizontal=False, vertical=True))
    share = cfg.INPUT.COLOR_JITTER
    if share > 0:
        kinds = (T.RandomBrightness, T.RandomContrast, T.RandomSaturation)
        steps += [kind(1 - share, 1 + share) for kind in kinds]
    return steps
