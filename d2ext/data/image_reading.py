"""Reading images: as Detectron2 does, with more than 8 bits per channel scaled to 8.

Training, evaluation, prediction, export and pages all read by `read_image`, so that a model sees
the same pixels everywhere.
"""

import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from detectron2.data.detection_utils import read_image as read_8_bit_image
from detectron2.utils.file_io import PathManager

# https://en.wikipedia.org/wiki/YUV#SDTV_with_BT.601
_RGB_TO_YUV = np.array(
    [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]
)


def is_deep(mode: str) -> bool:
    """Return true for Pillow's modes with more than 8 bits: 16 or 32 bits, or floats."""
    return mode in ("I", "F") or mode.startswith("I;16")


def scale_to_8_bits(values: NDArray) -> NDArray[np.uint8]:
    """Scale an image by its own range: the least finite value becomes 0, the greatest 255."""
    found = values.astype(np.float64)
    finite = found[np.isfinite(found)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    scaled = (np.nan_to_num(found, nan=low, posinf=high, neginf=low) - low) * (
        255 / ((high - low) or 1.0)
    )
    return scaled.astype(np.uint8)


def read_image(path: str, format: str) -> np.ndarray:
    """Read an image upright, scaled by its range if it has more than 8 bits.

    Args:
        path: of the file.
        format: "RGB", "BGR", "L" or "YUV-BT.601".
    Returns:
        (H, W, C) uint8, or floats for "YUV-BT.601"; one channel for "L".
    Raises:
        OSError: the file is missing, cannot be read or is no regular file.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{path}: not a regular file")  # a pipe or a device may have no end
    with PathManager.open(path, "rb") as file, Image.open(file) as image:  # its header alone
        if not is_deep(image.mode):
            return read_8_bit_image(path, format=format)
        return from_rgb(as_rgb(image), format)


def as_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return the (H, W, 3) pixels of an image upright, scaled as `read_image` does."""
    upright = ImageOps.exif_transpose(image)
    if not is_deep(image.mode):
        return np.array(upright.convert("RGB"))
    return np.repeat(scale_to_8_bits(np.asarray(upright))[:, :, None], 3, axis=2)


def from_rgb(image: np.ndarray, format: str) -> np.ndarray:
    """Convert an (H, W, 3) RGB uint8 image to the format of a model; see `read_image`."""
    if format == "BGR":
        return image[:, :, ::-1]
    if format == "L":
        return np.array(Image.fromarray(np.ascontiguousarray(image)).convert("L"))[:, :, None]
    if format == "YUV-BT.601":
        return np.dot(image / 255.0, _RGB_TO_YUV.T)
    return image
