"""A mask in any of its representations."""

from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util

from detectron2.utils.run_lengths import check_polygons, decode_run_lengths

__all__ = ["GenericMask"]


class GenericMask:
    """A mask given as polygons, RLE or array, convertible to each other.

    Args:
        mask_or_polygons: flat polygons [x0, y0, ...], a COCO RLE, or an (H, W) array.
        height, width: of the image in pixels.
    """

    def __init__(self, mask_or_polygons: Any, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._mask: np.ndarray | None = None
        self._polygons: list[np.ndarray] | None = None
        self._has_holes: bool | None = None
        if isinstance(mask_or_polygons, dict):
            self._mask = decode_run_lengths(mask_or_polygons)
        elif isinstance(mask_or_polygons, list):
            self._polygons = [np.asarray(polygon).reshape(-1) for polygon in mask_or_polygons]
        elif isinstance(mask_or_polygons, np.ndarray):
            self._mask = mask_or_polygons.astype("uint8")
        else:
            raise ValueError(f"cannot take {type(mask_or_polygons).__name__} for a mask")
        if self._mask is not None and self._mask.shape != (height, width):
            raise AssertionError(f"The mask is {self._mask.shape}, the image {(height, width)}.")

    @property
    def mask(self) -> np.ndarray:
        """(H, W) uint8."""
        if self._mask is None:
            self._mask = self.polygons_to_mask(self._polygons)
        return self._mask

    @property
    def polygons(self) -> list[np.ndarray]:
        """Flat polygons [x0, y0, ...] in pixels; holes are filled."""
        if self._polygons is None:
            self._polygons, self._has_holes = self.mask_to_polygons(self._mask)
        return self._polygons

    @property
    def has_holes(self) -> bool:
        """Whether the polygons lose holes of the mask; False if it is given as polygons."""
        if self._has_holes is None:
            given = self._mask is None
            self._has_holes = False if given else self.mask_to_polygons(self._mask)[1]
        return self._has_holes

    def mask_to_polygons(self, mask: Any) -> tuple[list[np.ndarray], bool]:
        """Convert an (H, W) array to outlines, and return whether they contain holes."""
        contours, hierarchy = cv2.findContours(
            np.ascontiguousarray(mask, dtype="uint8"), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        if hierarchy is None:
            return [], False
        is_hole = hierarchy.reshape(-1, 4)[:, 3] >= 0
        # The contour runs through pixel centres, coordinates have those at halves.
        outlines = [
            c.flatten() + 0.5 for c, hole in zip(contours, is_hole, strict=True) if not hole
        ]
        return [outline for outline in outlines if len(outline) >= 6], bool(is_hole.any())

    def polygons_to_mask(self, polygons: Any) -> np.ndarray:
        """Convert flat polygons to (H, W) uint8."""
        check_polygons(polygons)
        rles = mask_util.frPyObjects([p.tolist() for p in polygons], self.height, self.width)
        return mask_util.decode(mask_util.merge(rles))

    def area(self) -> int:
        """Return the area of the mask in pixels."""
        return int(self.mask.sum())

    def bbox(self) -> np.ndarray:
        """Return (4,) XYXY of the mask in pixels."""
        box = mask_util.toBbox(mask_util.encode(np.asfortranarray(self.mask)))
        return np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
