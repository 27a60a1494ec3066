"""The colour augmentation of SSD (Liu et al. 2016, arXiv:1512.02325, section 2.2)."""

import random

import cv2
import numpy as np
from fvcore.transforms.transform import Transform

__all__ = ["ColorAugSSDTransform"]


class ColorAugSSDTransform(Transform):
    """Random brightness, contrast, saturation and hue, each with probability 1/2.

    The values are drawn by the module `random` each time an image is transformed.

    Args:
        img_format: channel order of the images, "BGR" or "RGB".
        brightness_delta: maximum shift of every channel, in 0..255.
        contrast_low, contrast_high: range of the factor of every channel.
        saturation_low, saturation_high: range of the factor of the saturation.
        hue_delta: maximum shift of the hue, in steps of 2 degrees.

    Raises:
        ValueError: the format is neither of these.
    """

    def __init__(
        self,
        img_format: str,
        brightness_delta: int = 32,
        contrast_low: float = 0.5,
        contrast_high: float = 1.5,
        saturation_low: float = 0.5,
        saturation_high: float = 1.5,
        hue_delta: int = 18,
    ) -> None:
        super().__init__()
        if img_format not in ("BGR", "RGB"):
            raise ValueError(f"ColorAugSSDTransform takes BGR or RGB images, got '{img_format}'")
        self.is_rgb = img_format == "RGB"
        self.brightness_delta = brightness_delta
        self.contrast_low, self.contrast_high = contrast_low, contrast_high
        self.saturation_low, self.saturation_high = saturation_low, saturation_high
        self.hue_delta = hue_delta

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """Augment an (H, W, 3) uint8 image."""
        if self.is_rgb:
            img = img[:, :, ::-1]
        img = self.brightness(img)
        if _coin():
            img = self.hue(self.saturation(self.contrast(img)))
        else:
            img = self.contrast(self.hue(self.saturation(img)))
        return img[:, :, ::-1] if self.is_rgb else img

    def convert(self, img: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
        """Return `alpha * img + beta`, clipped to uint8."""
        return np.clip(img.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)

    def brightness(self, img: np.ndarray) -> np.ndarray:
        if not _coin():
            return img
        return self.convert(img, beta=random.uniform(-self.brightness_delta, self.brightness_delta))

    def contrast(self, img: np.ndarray) -> np.ndarray:
        if not _coin():
            return img
        return self.convert(img, alpha=random.uniform(self.contrast_low, self.contrast_high))

    def saturation(self, img: np.ndarray) -> np.ndarray:
        if not _coin():
            return img
        hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV)
        factor = random.uniform(self.saturation_low, self.saturation_high)
        hsv[:, :, 1] = self.convert(hsv[:, :, 1], alpha=factor)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)

    def hue(self, img: np.ndarray) -> np.ndarray:
        if not _coin():
            return img
        hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV)
        turn = random.randint(-self.hue_delta, self.hue_delta)
        hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + turn) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


def _coin() -> bool:
    return random.randrange(2) == 1
