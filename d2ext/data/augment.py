"""Augmentations of training images beyond those that Detectron2's config can name."""

import numpy as np

from d2ext.data.albumentations_adapter import Albumentations
from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.data import transforms as T


def extra_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """What keys of `INPUT` ask for, in this order; by default nothing.

    Raises:
        ConfigError: a value is out of its range.
    """
    steps: list[T.Augmentation] = []
    if cfg.INPUT.VERTICAL_FLIP > 0:
        steps.append(T.RandomFlip(cfg.INPUT.VERTICAL_FLIP, horizontal=False, vertical=True))
    if cfg.INPUT.ROTATION:
        steps.append(RandomTilt(_degrees(cfg.INPUT.ROTATION)))
    if tuple(cfg.INPUT.SCALE_JITTER) != (1.0, 1.0):
        steps.append(ScaleJitter(*_scales(cfg.INPUT.SCALE_JITTER)))
    share = cfg.INPUT.COLOR_JITTER
    if share > 0:
        kinds = (T.RandomBrightness, T.RandomContrast, T.RandomSaturation)
        steps += [kind(1 - share, 1 + share) for kind in kinds]
    if cfg.INPUT.BRIGHTNESS > 0:
        steps.append(T.RandomBrightness(1 - cfg.INPUT.BRIGHTNESS, 1 + cfg.INPUT.BRIGHTNESS))
    if cfg.INPUT.ALBUMENTATIONS:
        steps.append(Albumentations(cfg.INPUT.ALBUMENTATIONS))
    return steps


class RandomTilt(T.Augmentation):
    """Rotation around the middle by up to `degrees` either way; the image keeps its size."""

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.degrees = degrees

    def get_transform(self, image: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        angle = np.random.uniform(-self.degrees, self.degrees)
        # The crop cuts polygons at the border, which the rotation leaves outside.
        return T.TransformList(
            [
                T.RotationTransform(height, width, angle, expand=False),
                T.CropTransform(0, 0, width, height, width, height),
            ]
        )


class ScaleJitter(T.Augmentation):
    """Scaling by a random factor; of a larger image a random part of the old size is kept.

    Source: large-scale jittering, Ghiasi et al. 2021, arXiv:2012.07177.
    """

    def __init__(self, smallest: float, largest: float) -> None:
        super().__init__()
        self.smallest, self.largest = smallest, largest

    def get_transform(self, image: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        factor = np.random.uniform(self.smallest, self.largest)
        new_h, new_w = max(1, round(height * factor)), max(1, round(width * factor))
        crop_h, crop_w = min(new_h, height), min(new_w, width)
        top, left = np.random.randint(new_h - crop_h + 1), np.random.randint(new_w - crop_w + 1)
        return T.TransformList(
            [
                T.ResizeTransform(height, width, new_h, new_w),
                T.CropTransform(left, top, crop_w, crop_h, new_w, new_h),
            ]
        )


def _degrees(value: float) -> float:
    if not 0 < value <= 180:
        raise ConfigError(f"INPUT.ROTATION is from 0 to 180 degrees, got {value}.")
    return value


def _scales(values: tuple[float, float]) -> tuple[float, float]:
    if len(values) != 2 or not 0 < values[0] <= values[1]:
        raise ConfigError(
            f"INPUT.SCALE_JITTER is the smallest and the largest factor, as in (0.5, 2.0); "
            f"got {tuple(values)}."
        )
    return values[0], values[1]
