"""Resizing to a fixed size, stretched or letterboxed; Detectron2 resizes the shorter side."""

from collections.abc import Sequence

import cv2
import numpy as np

from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.data import transforms as T

SHORTEST_EDGE, STRETCH, LETTERBOX = KINDS = ("shortest_edge", "stretch", "letterbox")


class ResizeByOpenCV(T.Transform):
    """Bilinear resizing by OpenCV, without the smoothing that PIL applies when it shrinks images.

    Args:
        height, width: of the image before, in pixels.
        new_height, new_width: of the image after, in pixels.
    """

    def __init__(self, height: int, width: int, new_height: int, new_width: int) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.new_height, self.new_width = new_height, new_width

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Resize an (H, W, C) or (H, W) array of a dtype that OpenCV supports."""
        size = (self.new_width, self.new_height)
        found = cv2.resize(img, size, interpolation=cv2.INTER_LINEAR)
        return found if found.ndim == img.ndim else found[:, :, None]  # one channel is dropped

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Scale (N, 2) XY coordinates in pixels."""
        return coords * [self.new_width / self.width, self.new_height / self.height]

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Resize (H, W) labels by nearest neighbour: labels are not interpolated."""
        size = (self.new_width, self.new_height)
        return cv2.resize(segmentation, size, interpolation=cv2.INTER_NEAREST)

    def inverse(self) -> T.Transform:
        return ResizeByOpenCV(self.new_height, self.new_width, self.height, self.width)


class ResizeTo(T.Augmentation):
    """Resizing to one size, or letterboxing: the largest size of the same proportions that fits.

    Args:
        width, height: in pixels.
        stretch: do not keep the proportions. Otherwise the image is not padded here: models pad on
            the right and bottom, so that boxes stay relative to the unpadded image.
    """

    def __init__(self, width: int, height: int, stretch: bool) -> None:
        super().__init__()
        self.width, self.height, self.stretch = width, height, stretch

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the resizing of an (H, W, C) image."""
        height, width = image.shape[:2]
        return ResizeByOpenCV(height, width, *self.size_of(height, width))

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after resizing an image of `height` and `width`."""
        if self.stretch:
            return self.height, self.width
        scale = min(self.height / height, self.width / width)
        return max(1, round(scale * height)), max(1, round(scale * width))


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's resizing of the shorter side, after which no side has less than a pixel.

    Detectron2 rounds the height of a strip of 1400 x 2 pixels to 0.
    """

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the resizing of an (H, W, C) image."""
        found = super().get_transform(image)
        if not isinstance(found, T.ResizeTransform) or min(found.new_h, found.new_w) >= 1:
            return found
        sides = max(1, found.new_h), max(1, found.new_w)
        return T.ResizeTransform(found.h, found.w, *sides, found.interp)


def resize_to(cfg: CfgNode) -> ResizeTo | None:
    """Build the resizing of `INPUT.RESIZE`; None for Detectron2's resizing of the shorter side.

    Raises:
        ConfigError: there is no such resizing, or `INPUT.SIZE` is not a width and a height.
    """
    kind, size = cfg.INPUT.RESIZE, cfg.INPUT.SIZE
    if kind not in KINDS:
        raise ConfigError(f"INPUT.RESIZE: {kind!r} is none of {', '.join(KINDS)}.")
    if kind == SHORTEST_EDGE:
        return None
    if len(size) != 2 or min(size) < 1:
        raise ConfigError(f"INPUT.SIZE: expected width and height in pixels, got {list(size)}.")
    width, height = size
    return ResizeTo(width, height, stretch=kind == STRETCH)


def replace_resizing(cfg: CfgNode, steps: Sequence[T.Augmentation]) -> list[T.Augmentation]:
    """Replace the resizing among Detectron2's augmentations by that of `INPUT.RESIZE`."""
    own = resize_to(cfg)
    return [
        own or _by_edge(step) if isinstance(step, T.ResizeShortestEdge) else step for step in steps
    ]


def _by_edge(step: T.ResizeShortestEdge) -> ResizeShortestEdge:
    found = ResizeShortestEdge(step.short_edge_length, step.max_size, "choice", step.interp)
    found.is_range = step.is_range
    return found
