"""The built-in augmentations: resizing, flipping, cropping, rotation and colour."""

import math
import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from fvcore.transforms.transform import (
    BlendTransform,
    CropTransform,
    HFlipTransform,
    NoOpTransform,
    PadTransform,
    Transform,
    TransformList,
    VFlipTransform,
)
from PIL import Image

from .augmentation import Augmentation, _transform_to_aug
from .transform import ExtentTransform, ResizeTransform, RotationTransform

__all__ = [
    "FixedSizeCrop",
    "MinIoURandomCrop",
    "RandomApply",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomCrop_CategoryAreaConstraint",
    "RandomExtent",
    "RandomFlip",
    "RandomLighting",
    "RandomResize",
    "RandomRotation",
    "RandomSaturation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
]

_BILINEAR = Image.Resampling.BILINEAR


class RandomApply(Augmentation):
    """Apply another augmentation (or transform) with probability `prob`."""

    def __init__(self, tfm_or_aug: Transform | Augmentation, prob: float = 0.5) -> None:
        super().__init__()
        self.aug = _transform_to_aug(tfm_or_aug)
        if not 0.0 <= prob <= 1.0:
            raise AssertionError(f"prob must be within [0, 1], got {prob}")
        self.prob = prob

    def get_transform(self, *args: Any) -> Transform:
        chosen = self._rand_range() < self.prob
        return self.aug.get_transform(*args) if chosen else NoOpTransform()

    def __call__(self, aug_input: Any) -> Transform:
        chosen = self._rand_range() < self.prob
        return self.aug(aug_input) if chosen else NoOpTransform()


class RandomFlip(Augmentation):
    """Flip horizontally or vertically (one of them) with probability `prob`."""

    def __init__(
        self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False
    ) -> None:
        super().__init__()
        if horizontal == vertical:
            raise ValueError(
                "RandomFlip flips in one direction: set one of horizontal and vertical, "
                "and use two RandomFlip for both."
            )
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        if self._rand_range() >= self.prob:
            return NoOpTransform()
        return HFlipTransform(width) if self.horizontal else VFlipTransform(height)


class Resize(Augmentation):
    """Resize to `shape`, (height, width) or one side for both, in pixels."""

    def __init__(self, shape: int | Sequence[int], interp: int = _BILINEAR) -> None:
        shape = (shape, shape) if isinstance(shape, int) else tuple(shape)
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        return ResizeTransform(height, width, self.shape[0], self.shape[1], self.interp)


class ResizeShortestEdge(Augmentation):
    """Scale the shorter side to a random length, limited so that the longer is at most `max_size`.

    Args:
        short_edge_length: with "range", the lowest and highest length in pixels (or one length);
            with "choice", the lengths to choose from.
        max_size: maximum length of the longer side, in pixels.
        sample_style: "range" or "choice".
        interp: resampling filter of Pillow.
    """

    # TorchScript compiles `get_output_shape` and reads the whole class: hence the decorators,
    # and no Transform in the signatures.
    @torch.jit.unused
    def __init__(
        self,
        short_edge_length: int | Sequence[int],
        max_size: int = sys.maxsize,
        sample_style: Literal["range", "choice"] = "range",
        interp: int = _BILINEAR,
    ) -> None:
        super().__init__()
        if sample_style not in ("range", "choice"):
            raise AssertionError(f"sample_style is 'range' or 'choice', got {sample_style!r}")
        self.is_range = sample_style == "range"
        if isinstance(short_edge_length, int):
            short_edge_length = (short_edge_length, short_edge_length)
        if self.is_range and len(short_edge_length) != 2:
            raise AssertionError(
                f"short_edge_length must be two values with 'range', got {short_edge_length}"
            )
        self._init(locals())

    @torch.jit.unused
    def get_transform(self, image: Any) -> Any:
        height, width = image.shape[:2]
        lengths = self.short_edge_length
        if self.is_range:
            length = np.random.randint(lengths[0], lengths[1] + 1)
        else:
            length = np.random.choice(lengths)
        if length == 0:
            return NoOpTransform()
        shape = self.get_output_shape(height, width, length, self.max_size)
        return ResizeTransform(height, width, *shape, self.interp)

    @staticmethod
    def get_output_shape(
        oldh: int, oldw: int, short_edge_length: int, max_size: int
    ) -> tuple[int, int]:
        """Return (height, width) in pixels after resizing an image of (oldh, oldw)."""
        size = short_edge_length * 1.0
        scale = size / min(oldh, oldw)
        new_h, new_w = (size, scale * oldw) if oldh < oldw else (scale * oldh, size)
        longest = max(new_h, new_w)
        if longest > max_size:
            shrink = max_size * 1.0 / longest
            new_h, new_w = new_h * shrink, new_w * shrink
        # Rounding to the nearest, as in Detectron2 (`round` would round halves to even).
        # A thin image must not lose a side: no image has 0 rows.
        return max(1, int(new_h + 0.5)), max(1, int(new_w + 0.5))


class ResizeScale(Augmentation):
    """Fit the image with its aspect ratio into a target box of random scale (large-scale jitter).

    Args:
        min_scale, max_scale: range of the scale of the target box.
        target_height, target_width: the target box in pixels.
        interp: resampling filter of Pillow.
    """

    def __init__(
        self,
        min_scale: float,
        max_scale: float,
        target_height: int,
        target_width: int,
        interp: int = _BILINEAR,
    ) -> None:
        super().__init__()
        self._init(locals())

    def _get_resize(self, image: np.ndarray, scale: float) -> Transform:
        size = np.array(image.shape[:2])
        box = np.array([self.target_height, self.target_width]) * scale
        new_h, new_w = np.rint(size * (box / size).min()).clip(min=1).astype(int).tolist()
        return ResizeTransform(image.shape[0], image.shape[1], new_h, new_w, self.interp)

    def get_transform(self, image: np.ndarray) -> Transform:
        return self._get_resize(image, np.random.uniform(self.min_scale, self.max_scale))


class RandomRotation(Augmentation):
    """Rotate counter-clockwise by a random angle.

    Args:
        angle: with "range", the lowest and highest angle in degrees; with "choice", the angles to
            choose from; a number for a fixed angle.
        expand: enlarge the image to contain the whole rotated one.
        center: with "range", ((min x, min y), (max x, max y)), with "choice", centres to choose
            from, relative to the image's size; by default the centre of the image.
        sample_style: "range" or "choice".
        interp: interpolation of OpenCV.
    """

    def __init__(
        self,
        angle: float | Sequence[float],
        expand: bool = True,
        center: Sequence[Sequence[float]] | None = None,
        sample_style: Literal["range", "choice"] = "range",
        interp: int | None = None,
    ) -> None:
        super().__init__()
        if sample_style not in ("range", "choice"):
            raise AssertionError(f"sample_style is 'range' or 'choice', got {sample_style!r}")
        self.is_range = sample_style == "range"
        angle = (angle, angle) if isinstance(angle, (float, int)) else angle
        if center is not None and np.isscalar(center[0]):
            center = (center, center)  # type: ignore[assignment]
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        angle, center = self._sample()
        if center is not None:
            center = (width * center[0], height * center[1])
        if angle % 360 == 0:
            return NoOpTransform()
        return RotationTransform(
            height, width, angle, expand=self.expand, center=center, interp=self.interp
        )

    def _sample(self) -> tuple[float, tuple[float, float] | None]:
        if not self.is_range:
            angle = np.random.choice(self.angle)
            return angle, self.center and self.center[np.random.choice(len(self.center))]
        angle = np.random.uniform(self.angle[0], self.angle[1])
        if self.center is None:
            return angle, None
        low, high = self.center
        return angle, (np.random.uniform(low[0], high[0]), np.random.uniform(low[1], high[1]))


class FixedSizeCrop(Augmentation):
    """Crop randomly to a fixed size; smaller images are padded at the right and the bottom.

    Args:
        crop_size: (height, width) in pixels.
        pad: pad smaller images; otherwise they stay smaller.
        pad_value: padding value of the image.
        seg_pad_value: padding value of the segmentation.
    """

    def __init__(
        self,
        crop_size: tuple[int, int],
        pad: bool = True,
        pad_value: float = 128.0,
        seg_pad_value: int = 255,
    ) -> None:
        super().__init__()
        self._init(locals())

    def _get_crop(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        slack = np.maximum(np.subtract((height, width), self.crop_size), 0)
        top, left = np.round(slack * np.random.uniform(0.0, 1.0)).astype(int).tolist()
        return CropTransform(left, top, self.crop_size[1], self.crop_size[0], width, height)

    def _get_pad(self, image: np.ndarray) -> Transform:
        height, width = np.minimum(image.shape[:2], self.crop_size).tolist()
        bottom, right = self.crop_size[0] - height, self.crop_size[1] - width
        return PadTransform(0, 0, right, bottom, width, height, self.pad_value, self.seg_pad_value)

    def get_transform(self, image: np.ndarray) -> TransformList:
        steps = [self._get_crop(image)]
        if self.pad:
            steps.append(self._get_pad(image))
        return TransformList(steps)


class RandomCrop(Augmentation):
    """Crop at a random place, to a size that depends on `crop_type`.

    Args:
        crop_type: of an (H, W) image,
            "relative" takes (H * crop_size[0], W * crop_size[1]);
            "relative_range" the same with factors uniform in [crop_size[i], 1];
            "absolute" takes `crop_size` pixels, or the image where that is smaller;
            "absolute_range" draws each side from crop_size[0] to crop_size[1] pixels, both limited
            by the image.
        crop_size: two numbers, height's before width's.
    """

    def __init__(self, crop_type: str, crop_size: Sequence[float]) -> None:
        super().__init__()
        if crop_type not in ("relative_range", "relative", "absolute", "absolute_range"):
            raise AssertionError(f"unknown crop_type {crop_type!r}")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        crop_h, crop_w = self.get_crop_size((height, width))
        if height < crop_h or width < crop_w:
            raise AssertionError(f"a crop of {(crop_h, crop_w)} from an image of {(height, width)}")
        top = np.random.randint(height - crop_h + 1)
        left = np.random.randint(width - crop_w + 1)
        return CropTransform(left, top, crop_w, crop_h)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of the crop for (height, width) of the image, in pixels."""
        height, width = image_size
        if self.crop_type == "absolute":
            return min(self.crop_size[0], height), min(self.crop_size[1], width)
        if self.crop_type == "absolute_range":
            return self._side_between(height), self._side_between(width)
        factors = self.crop_size
        if self.crop_type == "relative_range":
            lowest = np.asarray(self.crop_size, dtype=np.float32)
            factors = lowest + np.random.rand(2) * (1 - lowest)
        return max(1, int(height * factors[0] + 0.5)), max(1, int(width * factors[1] + 0.5))

    def _side_between(self, side: int) -> int:
        shortest, longest = self.crop_size
        if shortest > longest:
            raise AssertionError(f"crop_size[0] must not exceed crop_size[1]: {self.crop_size}")
        return np.random.randint(min(side, shortest), min(side, longest) + 1)


class RandomCrop_CategoryAreaConstraint(Augmentation):
    """`RandomCrop` with up to ten trials, so that no single category fills the crop.

    Args:
        crop_type, crop_size: see `RandomCrop`.
        single_category_max_area: maximum fraction of the crop for one category; 1.0 for no limit.
        ignored_category: a label that is not counted, usually the one ignored in training.
    """

    def __init__(
        self,
        crop_type: str,
        crop_size: Sequence[float],
        single_category_max_area: float = 1.0,
        ignored_category: int | None = None,
    ) -> None:
        self.crop_aug = RandomCrop(crop_type, crop_size)
        self._init(locals())

    def get_transform(self, image: np.ndarray, sem_seg: np.ndarray) -> Transform:
        if self.single_category_max_area >= 1.0:
            return self.crop_aug.get_transform(image)
        size = sem_seg.shape[:2]
        for _ in range(10):
            crop_h, crop_w = self.crop_aug.get_crop_size(size)
            top = np.random.randint(size[0] - crop_h + 1)
            left = np.random.randint(size[1] - crop_w + 1)
            if self._is_varied(sem_seg[top : top + crop_h, left : left + crop_w]):
                break
        return CropTransform(left, top, crop_w, crop_h)

    def _is_varied(self, labels: np.ndarray) -> bool:
        values, counts = np.unique(labels, return_counts=True)
        if self.ignored_category is not None:
            counts = counts[values != self.ignored_category]
        return len(counts) > 1 and counts.max() < counts.sum() * self.single_category_max_area


class RandomExtent(Augmentation):
    """Cut a randomly scaled and shifted rectangle of the image; the outside is black.

    Args:
        scale_range: minimum and maximum size of the rectangle relative to the image's.
        shift_range: (x, y): the centre of the rectangle moves by up to half of these fractions of
            the image's width and height.
    """

    def __init__(self, scale_range: tuple[float, float], shift_range: tuple[float, float]) -> None:
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        size = np.array([image.shape[1], image.shape[0]])
        half = 0.5 * size * np.random.uniform(*self.scale_range)
        offset = [
            share * side * (np.random.rand() - 0.5)
            for share, side in zip(self.shift_range, size, strict=True)
        ]
        low, high = offset - half + 0.5 * size, offset + half + 0.5 * size
        output_size = (int(high[1] - low[1]), int(high[0] - low[0]))
        return ExtentTransform(src_rect=(*low, *high), output_size=output_size)


class RandomContrast(Augmentation):
    """Blend with the image's mean: an intensity below 1 reduces contrast, above 1 raises it."""

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        return BlendTransform(src_image=image.mean(), src_weight=1 - weight, dst_weight=weight)


class RandomBrightness(Augmentation):
    """Blend with black: an intensity below 1 darkens, above 1 brightens."""

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        return BlendTransform(src_image=0, src_weight=1 - weight, dst_weight=weight)


class RandomSaturation(Augmentation):
    """Blend an RGB image with its grey version (ITU-R 601 luma): below 1 desaturates."""

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        if image.shape[-1] != 3:
            raise AssertionError(f"RandomSaturation needs an RGB image, got {image.shape}")
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        # Luma of ITU-R BT.601.
        grey = image.dot([0.299, 0.587, 0.114])[:, :, None]
        return BlendTransform(src_image=grey, src_weight=1 - weight, dst_weight=weight)


class RandomLighting(Augmentation):
    """AlexNet's colour noise along the principal components of ImageNet, for RGB images.

    Source: Krizhevsky et al. 2012, section 4.1.

    Args:
        scale: standard deviation of the weights of the components.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self._init(locals())
        # Eigenvectors and eigenvalues of the RGB covariance over ImageNet.
        rows = [(-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203)]
        self.eigen_vecs = np.array(rows)
        self.eigen_vals = np.array([0.2175, 0.0188, 0.0045])

    def get_transform(self, image: np.ndarray) -> Transform:
        if image.shape[-1] != 3:
            raise AssertionError(f"RandomLighting needs an RGB image, got {image.shape}")
        weights = np.random.normal(scale=self.scale, size=3)
        shift = self.eigen_vecs.dot(weights * self.eigen_vals)
        return BlendTransform(src_image=shift, src_weight=1.0, dst_weight=1.0)


class RandomResize(Augmentation):
    """Resize to a (height, width) chosen from `shape_list`."""

    def __init__(self, shape_list: Sequence[tuple[int, int]], interp: int = _BILINEAR) -> None:
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        shape = self.shape_list[np.random.choice(len(self.shape_list))]
        return ResizeTransform(image.shape[0], image.shape[1], shape[0], shape[1], self.interp)


class MinIoURandomCrop(Augmentation):
    """Crop with a random minimum IoU with every box, as in SSD (Liu et al. 2016, section 2.2).

    Args:
        min_ious: thresholds to draw from, besides "no crop" and "any overlap".
        min_crop_size: minimum side of the crop relative to the image's.
        mode_trials: number of thresholds to try before giving up.
        crop_trials: number of crops to try per threshold.
    """

    def __init__(
        self,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        mode_trials: int = 1000,
        crop_trials: int = 50,
    ) -> None:
        self.min_ious = min_ious
        # 1 stands for the whole image, 0 for a crop with any overlap.
        self.sample_mode = (1, *min_ious, 0)
        self.min_crop_size = min_crop_size
        self.mode_trials = mode_trials
        self.crop_trials = crop_trials

    def get_transform(self, image: np.ndarray, boxes: np.ndarray | None) -> Transform:
        boxes = np.zeros((0, 4)) if boxes is None else np.asarray(boxes).reshape(-1, 4)
        for _ in range(self.mode_trials):
            min_iou = np.random.choice(self.sample_mode)
            if min_iou == 1:
                break
            for _ in range(self.crop_trials):
                crop = self._sample_crop(*image.shape[:2])
                if crop is not None and _is_valid_crop(crop, boxes, min_iou):
                    left, top, width, height = crop
                    return CropTransform(int(left), int(top), int(width), int(height))
        return NoOpTransform()

    def _sample_crop(self, height: int, width: int) -> tuple[float, float, float, float] | None:
        """Draw left, top, width and height, or None if the aspect ratio is extreme."""
        crop_w = np.random.uniform(self.min_crop_size * width, width)
        crop_h = np.random.uniform(self.min_crop_size * height, height)
        # SSD's limits of the aspect ratio.
        if not 0.5 <= crop_h / crop_w <= 2:
            return None
        left, top = np.random.uniform(width - crop_w), np.random.uniform(height - crop_h)
        return left, top, crop_w, crop_h


def _is_valid_crop(
    crop: tuple[float, float, float, float], boxes: np.ndarray, min_iou: float
) -> bool:
    left, top, width, height = crop
    window = np.array([left, top, left + width, top + height]).astype(int)
    if (window[2:] == window[:2]).any():
        return False
    if not len(boxes):
        return True
    if _iou_with(window, boxes).min() < min_iou:
        return False
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return bool(((centers > window[:2]) & (centers < window[2:])).all(axis=1).any())


def _iou_with(window: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    sides = np.minimum(window[2:], boxes[:, 2:]) - np.maximum(window[:2], boxes[:, :2])
    overlap = sides.clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return overlap / (math.prod((window[2:] - window[:2]).tolist()) + areas - overlap)
