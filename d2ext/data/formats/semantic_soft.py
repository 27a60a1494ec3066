"""Black and white masks with soft edges: resized with interpolation, or saved as JPEG."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from d2ext.data.formats.image_files import UNREADABLE_IMAGE, open_image

CUT = 128  # grey values from here on are foreground
_SAMPLES = 50  # masks that are looked at, spread over all
_DARK, _BRIGHT = 32, 224  # values below and from here on are black and white
_ENDS = 0.8  # share of pixels that are black or white
_WHITE = 0.002  # least share of white ones
_GREYS = 3  # least number of different greys between
_THIN = 0.05  # share of grey pixels that are left when their outlines shrink by two pixels


def has_soft_edges(masks: Sequence[Path]) -> bool:
    """Return true for masks that are black and white but for thin edges or the noise of JPEG.

    Masks of many classes have regions of grey values, which are as wide as objects.
    """
    step = -(-len(masks) // _SAMPLES) or 1
    pictures = [found for mask in masks[::step] if (found := _grey(mask)) is not None]
    if not pictures or any(picture is _OTHER for picture in pictures):
        return False
    counts = np.sum([np.bincount(p.ravel(), minlength=256) for p in pictures], axis=0)
    dark, bright = counts[:_DARK].sum(), counts[_BRIGHT:].sum()
    total = counts.sum()
    if not dark or bright < _WHITE * total or dark + bright < _ENDS * total:
        return False
    if (counts[_DARK:_BRIGHT] > 0).sum() >= _GREYS:
        return _thin_share(pictures) <= _THIN
    noisy = min((counts[:_DARK] > 0).sum(), (counts[_BRIGHT:] > 0).sum()) > 1
    return bool(noisy) and any(mask.suffix.lower() in (".jpg", ".jpeg") for mask in masks)


_OTHER = np.zeros((0, 0), np.uint8)  # stands for a mask that is not grey


def _grey(mask: Path) -> NDArray[np.uint8] | None:
    """Return (H, W) grey values; `_OTHER` for indices of a palette and deep masks."""
    try:
        with open_image(mask) as image:
            if image.mode in ("L", "LA", "RGB", "RGBA"):
                return np.asarray(image.convert("L"))
    except UNREADABLE_IMAGE:
        return None
    return _OTHER


def _thin_share(pictures: Sequence[NDArray[np.uint8]]) -> float:
    grey, wide = 0, 0
    for picture in pictures:
        between = ((picture >= _DARK) & (picture < _BRIGHT)).astype(np.uint8)
        grey += int(between.sum())
        wide += int(cv2.erode(between, np.ones((5, 5), np.uint8), borderValue=0).sum())
    return wide / max(1, grey)
