"""Resizing images to one size, stretched or fitted in; Detectron2 goes by the shorter side."""

from collections.abc import Sequence

import cv2
import numpy as np

from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.data import transforms as T

SHORTEST_EDGE, STRETCH, LETTERBOX = KINDS = ("shortest_edge", "stretch", "letterbox")


class ResizeByOpenCV(T.Transform):
    """Resizes by OpenCV's bilinear interpolation, which does not smooth what it makes smaller.

    Args:
        height: of images before, in pixels.
        width: likewise.
        new_height: of images after.
        new_width: likewise.
    """

    def __init__(self, height: int, width: int, new_height: int, new_width: int) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.new_height, self.new_width = new_height, new_width

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(H, W, C) or (H, W) of any type that OpenCV knows -> (new_height, new_width, ...)."""
        return cv2.resize(img, (self.new_width, self.new_height), interpolation=cv2.INTER_LINEAR)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """(N, 2) XY pixels -> the same in the resized image."""
        return coords * [self.new_width / self.width, self.new_height / self.height]

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """(H, W) of labels, which are not mixed."""
        size = (self.new_width, self.new_height)
        return cv2.resize(segmentation, size, interpolation=cv2.INTER_NEAREST)

    def inverse(self) -> T.Transform:
        return ResizeByOpenCV(self.new_height, self.new_width, self.height, self.width)


class ResizeTo(T.Augmentation):
    """Resizes every image to one size or, keeping its proportions, to the largest that fits in.

    Args:
        width: in pixels.
        height: in pixels.
        stretch: do not keep the proportions. If they are kept, nothing is padded here: models pad,
            on the right and bottom, so that boxes of the resized image are exact by its own size.
    """

    def __init__(self, width: int, height: int, stretch: bool) -> None:
        super().__init__()
        self.width, self.height, self.stretch = width, height, stretch

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """(H, W, C) image -> its resizing."""
        height, width = image.shape[:2]
        return ResizeByOpenCV(height, width, *self.size_of(height, width))

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of `height` and `width` gets."""
        if self.stretch:
            return self.height, self.width
        scale = min(self.height / height, self.width / width)
        return max(1, round(scale * height)), max(1, round(scale * width))


def resize_to(cfg: CfgNode) -> ResizeTo | None:
    """What `INPUT.RESIZE` asks for; None for Detectron2's own resizing by the shorter side.

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


def with_resizing(cfg: CfgNode, steps: Sequence[T.Augmentation]) -> list[T.Augmentation]:
    """Detectron2's augmentations, but resizing as `INPUT.RESIZE` says."""
    own = resize_to(cfg)
    if own is None:
        return list(steps)
    return [own if isinstance(step, T.ResizeShortestEdge) else step for step in steps]
