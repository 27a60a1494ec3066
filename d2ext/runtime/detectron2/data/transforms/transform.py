"""Deterministic transforms beyond fvcore's: resizing, extents, rotation and colour."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from fvcore.transforms.transform import (
    CropTransform,
    HFlipTransform,
    NoOpTransform,
    Transform,
    TransformList,
)
from PIL import Image

__all__ = [
    "ColorTransform",
    "ExtentTransform",
    "PILColorTransform",
    "ResizeTransform",
    "RotationTransform",
]

_TORCH_MODES = {
    Image.Resampling.NEAREST: "nearest",
    Image.Resampling.BILINEAR: "bilinear",
    Image.Resampling.BICUBIC: "bicubic",
}


def _through_pil(image: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Apply `change` to a Pillow image; the last axis of (H, W, 1), which it lacks, is restored."""
    single = image.ndim == 3 and image.shape[2] == 1
    changed = np.array(change(Image.fromarray(image[:, :, 0] if single else image)))
    return changed[:, :, None] if single else changed


class ExtentTransform(Transform):
    """A rectangle of the image, which may extend beyond it, scaled to an output size.

    Args:
        src_rect: x0, y0, x1, y1 in pixels.
        output_size: (height, width) in pixels.
        interp: resampling filter of Pillow.
        fill: value of the pixels outside the image.
    """

    def __init__(
        self,
        src_rect: tuple[float, float, float, float],
        output_size: tuple[int, int],
        interp: int = Image.Resampling.BILINEAR,
        fill: int = 0,
    ) -> None:
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        height, width = self.output_size
        return _through_pil(
            img,
            lambda picture: picture.transform(
                size=(width, height),
                method=Image.Transform.EXTENT,
                data=self.src_rect,
                resample=interp if interp else self.interp,
                fill=self.fill,
            ),
        )

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        height, width = self.output_size
        x0, y0, x1, y1 = self.src_rect
        mapped = coords.astype("float32")  # relative to the centres, where float32 is most precise
        mapped -= [0.5 * (x0 + x1), 0.5 * (y0 + y1)]
        mapped *= [width / (x1 - x0), height / (y1 - y0)]
        mapped += [0.5 * width, 0.5 * height]
        return mapped

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.Resampling.NEAREST)


class ResizeTransform(Transform):
    """Resize (h, w) to (new_h, new_w).

    uint8 images are resized as by Pillow, which antialiases when it shrinks; others by
    `F.interpolate`, without antialiasing.

    Args:
        h, w: size of the image in pixels.
        new_h, new_w: target size in pixels.
        interp: resampling filter of Pillow, bilinear by default.
    """

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: int | None = None) -> None:
        super().__init__()
        interp = Image.Resampling.BILINEAR if interp is None else interp
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if img.shape[:2] != (self.h, self.w):
            raise AssertionError(f"Made for {self.h} x {self.w} images, got {img.shape[:2]}.")
        method = Image.Resampling(self.interp if interp is None else interp)
        if img.dtype != np.uint8:
            return self._interpolate(img, _TORCH_MODES[method])
        if method == Image.Resampling.BILINEAR and img.shape[2:] in ((), (1,), (3,)):
            # Pillow's algorithm with vector instructions; results differ by one level at most.
            return self._interpolate(img, "bilinear", antialias=True)
        return _through_pil(img, lambda p: p.resize((self.new_w, self.new_h), method))

    def _interpolate(self, img: np.ndarray, mode: str, antialias: bool = False) -> np.ndarray:
        pixels = torch.from_numpy(np.ascontiguousarray(img))
        channels_first = pixels.reshape(self.h, self.w, -1).permute(2, 0, 1)[None]
        align = None if mode == "nearest" else False
        resized = F.interpolate(
            channels_first,
            (self.new_h, self.new_w),
            mode=mode,
            align_corners=align,
            antialias=antialias,
        )
        return resized[0].permute(1, 2, 0).reshape(self.new_h, self.new_w, *img.shape[2:]).numpy()

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        # `*=` would fail for integer coordinates, which stay integers.
        coords[:, 0] = coords[:, 0] * (self.new_w / self.w)
        coords[:, 1] = coords[:, 1] * (self.new_h / self.h)
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.Resampling.NEAREST)

    def inverse(self) -> "ResizeTransform":
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


class RotationTransform(Transform):
    """Rotation counter-clockwise, as seen on screen.

    Args:
        h, w: size of the image in pixels.
        angle: degrees.
        expand: enlarge the image to contain the whole rotated one, otherwise keep its size.
        center: (x, y) of the fixed point in pixels; by default the centre. It only shifts, so it
            has no effect with `expand`.
        interp: interpolation of OpenCV, linear by default.
    """

    def __init__(
        self,
        h: int,
        w: int,
        angle: float,
        expand: bool = True,
        center: tuple[float, float] | None = None,
        interp: int | None = None,
    ) -> None:
        super().__init__()
        image_center = np.array((w / 2, h / 2))
        center = (w / 2, h / 2) if center is None else center
        interp = cv2.INTER_LINEAR if interp is None else interp
        radians = np.deg2rad(angle)
        abs_cos, abs_sin = abs(np.cos(radians)), abs(np.sin(radians))
        bound_w, bound_h = w, h
        if expand:
            extent = [h * abs_sin + w * abs_cos, h * abs_cos + w * abs_sin]
            bound_w, bound_h = np.rint(extent).astype(int)
        self._set_attributes(locals())
        # OpenCV's pixel centres are at integers, those of coordinates at .5.
        self.rm_coords = self.create_rotation_matrix()
        self.rm_image = self.create_rotation_matrix(offset=-0.5)

    def _does_nothing(self, data: np.ndarray) -> bool:
        return len(data) == 0 or self.angle % 360 == 0

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if self._does_nothing(img):
            return img
        if img.shape[:2] != (self.h, self.w):
            raise AssertionError(f"Made for {self.h} x {self.w} images, got {img.shape[:2]}.")
        method = self.interp if interp is None else interp
        return cv2.warpAffine(
            img, self.rm_image, (int(self.bound_w), int(self.bound_h)), flags=method
        )

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords = np.asarray(coords, dtype=float)
        if self._does_nothing(coords):
            return coords
        return cv2.transform(coords[:, None], self.rm_coords)[:, 0]

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=cv2.INTER_NEAREST)

    def create_rotation_matrix(self, offset: float = 0) -> np.ndarray:
        """Build the (2, 3) affine matrix for points whose origin is moved by `offset` pixels."""
        center = (float(self.center[0] + offset), float(self.center[1] + offset))
        matrix = cv2.getRotationMatrix2D(center, self.angle, 1)
        if self.expand:
            middle = matrix @ np.append(self.image_center + offset, 1.0)
            matrix[:, 2] += np.array([self.bound_w / 2, self.bound_h / 2]) + offset - middle
        return matrix

    def inverse(self) -> TransformList:
        """Return the inverse rotation; with `expand`, also crop to the size of the original."""
        if not self.expand:
            raise NotImplementedError("A rotation without `expand` loses pixels.")
        back = RotationTransform(self.bound_h, self.bound_w, -self.angle, True, None, self.interp)
        # Rotating back enlarges the image again, symmetrically: crop the middle.
        left, top = (back.bound_w - self.w) // 2, (back.bound_h - self.h) // 2
        return TransformList([back, CropTransform(left, top, self.w, self.h)])


class ColorTransform(Transform):
    """A function of the image's values; coordinates and segmentations do not change.

    Args:
        op: maps an image array to an image array.
    """

    def __init__(self, op: Callable[[Any], Any]) -> None:
        if not callable(op):
            raise ValueError(f"op must be callable, got {op!r}")
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self.op(img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def inverse(self) -> NoOpTransform:
        return NoOpTransform()

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation


class PILColorTransform(ColorTransform):
    """A function of the Pillow image's values; coordinates and segmentations do not change."""

    def __init__(self, op: Callable[[Image.Image], Image.Image]) -> None:
        super().__init__(op)

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.asarray(self.op(Image.fromarray(img)))


def HFlip_rotated_box(transform: HFlipTransform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Flip (N, 5) XYWHA boxes: mirror the centre and negate the angle."""
    rotated_boxes[:, 0] = transform.width - rotated_boxes[:, 0]
    rotated_boxes[:, 4] = -rotated_boxes[:, 4]
    return rotated_boxes


def Resize_rotated_box(transform: ResizeTransform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Resize (N, 5) XYWHA boxes, keeping rectangles where uneven scaling gives parallelograms."""
    x_scale, y_scale = transform.new_w / transform.w, transform.new_h / transform.h
    theta = np.deg2rad(rotated_boxes[:, 4])
    sin, cos = np.sin(theta), np.cos(theta)
    rotated_boxes[:, 0] *= x_scale
    rotated_boxes[:, 1] *= y_scale
    rotated_boxes[:, 2] *= np.hypot(x_scale * cos, y_scale * sin)
    rotated_boxes[:, 3] *= np.hypot(x_scale * sin, y_scale * cos)
    rotated_boxes[:, 4] = np.rad2deg(np.arctan2(x_scale * sin, y_scale * cos))
    return rotated_boxes


HFlipTransform.register_type("rotated_box", HFlip_rotated_box)
ResizeTransform.register_type("rotated_box", Resize_rotated_box)
NoOpTransform.register_type("rotated_box", lambda _, boxes: boxes)
