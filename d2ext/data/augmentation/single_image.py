"""Augmentations of single training images, beyond those of Detectron2's config."""

from dataclasses import dataclass

import cv2
import numpy as np

from d2ext.data.augmentation.albumentations_adapter import Albumentations
from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.data import transforms as T


def build_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Build the augmentations that keys of `INPUT` turn on, in a fixed order; none by default.

    Raises:
        ConfigError: a value is out of its range.
    """
    steps: list[T.Augmentation] = []
    if cfg.INPUT.VERTICAL_FLIP > 0:
        steps.append(T.RandomFlip(cfg.INPUT.VERTICAL_FLIP, horizontal=False, vertical=True))
    if cfg.INPUT.ROTATION:
        steps.append(RandomRotation(_degrees(cfg.INPUT.ROTATION)))
    if tuple(cfg.INPUT.SCALE_JITTER) != (1.0, 1.0):
        steps.append(ScaleJitter(*_scales(cfg.INPUT.SCALE_JITTER)))
    share = cfg.INPUT.COLOR_JITTER
    if share > 0:
        steps.append(ColorJitter(share))
    if cfg.INPUT.BRIGHTNESS > 0:
        steps.append(T.RandomBrightness(1 - cfg.INPUT.BRIGHTNESS, 1 + cfg.INPUT.BRIGHTNESS))
    if cfg.INPUT.ALBUMENTATIONS:
        steps.append(Albumentations(cfg.INPUT.ALBUMENTATIONS))
    return steps


class RandomRotation(T.Augmentation):
    """Random rotation about the centre by up to `degrees` either way; the size is kept."""

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


class ColorJitter(T.Augmentation):
    """Color jitter: brightness, contrast and saturation times 1 - `share` to 1 + `share`."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def get_transform(self, image: np.ndarray) -> T.Transform:
        return T.ColorTransform(
            ColorJitterTransform(*np.random.uniform(1 - self.share, 1 + self.share, 3))
        )


@dataclass
class ColorJitterTransform:
    """Color jitter of an (H, W, C) image, in one pass over it.

    Args:
        brightness: factor of all values.
        contrast: factor of the distance from the image's mean.
        saturation: factor of the distance from the pixel's grey value; RGB images only.
    """

    brightness: float
    contrast: float
    saturation: float

    def __call__(self, image: np.ndarray) -> np.ndarray:
        factor = self.brightness * self.contrast
        shift = self.brightness * (1 - self.contrast) * float(image.mean())
        if image.ndim < 3 or image.shape[2] != 3:
            return cv2.addWeighted(image, factor, image, 0.0, shift).reshape(image.shape)
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        mixed = self.saturation * factor, (1 - self.saturation) * factor
        return cv2.addWeighted(image, mixed[0], grey, mixed[1], shift)


class ScaleJitter(T.Augmentation):
    """Large-scale jittering: random scaling, then a random crop to the old size.

    Source: Ghiasi et al. 2021, arXiv:2012.07177.
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
