"""Augmentations that combine several images: mosaic, mixup and copy-paste."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from d2ext.data.augmentation.annotated_image import AnnotatedImage, AnnotationTransform, Item
from d2ext.errors import ConfigError, DataError
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.structures import BoxMode, polygons_to_bitmask

Sampler = Callable[[], AnnotatedImage]


class MultiImageAugmentation(Protocol):
    """Combines an image with further ones that it samples from the training set."""

    def __call__(
        self, annotated: AnnotatedImage, sample: Sampler, transform: AnnotationTransform
    ) -> AnnotatedImage: ...


def build_multi_image_augmentations(cfg: CfgNode) -> list[MultiImageAugmentation]:
    """Build what `INPUT.MOSAIC`, `INPUT.COPY_PASTE` and `INPUT.MIXUP` turn on; none by default.

    Raises:
        ConfigError: a probability is out of range, or the model cannot learn from combined images.
    """
    kinds: dict[str, Callable[[float], MultiImageAugmentation]] = {
        "MOSAIC": Mosaic,
        "COPY_PASTE": CopyPaste,
        "MIXUP": MixUp,
    }
    wanted = {name: cfg.INPUT[name] for name in kinds if cfg.INPUT[name] != 0}
    for name, probability in wanted.items():
        if not 0 < probability <= 1:
            raise ConfigError(f"INPUT.{name} is a probability from 0 to 1, got {probability}.")
    if wanted and cfg.MODEL.LOAD_PROPOSALS:
        raise ConfigError(
            f"INPUT.{next(iter(wanted))} mixes images, whose own proposals (MODEL.LOAD_PROPOSALS) "
            "no longer fit: set one of the two to nothing."
        )
    if "COPY_PASTE" in wanted and not (cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "bitmask"):
        raise ConfigError(
            "INPUT.COPY_PASTE cuts objects out by their masks: it needs a model with MODEL.MASK_ON "
            "True, and INPUT.MASK_FORMAT bitmask."
        )
    return [kinds[name](probability) for name, probability in wanted.items()]


@dataclass
class Mosaic:
    """Mosaic: four images around a random point, in a frame of the first one's size.

    Each image covers its quarter and is enlarged by a further random factor of up to 2.

    Source: Bochkovskiy et al. 2020, arXiv:2004.10934, section 3.3.
    """

    probability: float

    def __call__(
        self, annotated: AnnotatedImage, sample: Sampler, transform: AnnotationTransform
    ) -> AnnotatedImage:
        if np.random.rand() >= self.probability:
            return annotated
        height, width = annotated.size
        x, y = (round(side * np.random.uniform(0.3, 0.7)) for side in (width, height))
        corners = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
        parts = [annotated, sample(), sample(), sample()]
        return _side_by_side(
            [
                _into_cell(part, cell, annotated.size, transform)
                for part, cell in zip(parts, corners, strict=True)
            ],
            corners,
        )


@dataclass
class MixUp:
    """Mixup: a blend of two images that keeps the objects of both.

    Source: Zhang et al. 2018, arXiv:1710.09412; for detection Ge et al. 2021, arXiv:2107.08430.
    """

    probability: float

    def __call__(
        self, annotated: AnnotatedImage, sample: Sampler, transform: AnnotationTransform
    ) -> AnnotatedImage:
        if np.random.rand() >= self.probability:
            return annotated
        if annotated.sem_seg is not None:
            raise DataError("INPUT.MIXUP cannot blend semantic labels: set it to 0.")
        other = _fitted(sample(), annotated.size, transform, scale=1.0)
        share = np.random.beta(32, 32)  # near a half
        image, rows, columns = annotated.image.copy(), *_extent(other)
        blended = share * image[rows, columns] + (1 - share) * other.annotated.image[rows, columns]
        image[rows, columns] = blended.round().astype(image.dtype)
        return AnnotatedImage(image, annotated.annotations + other.annotated.annotations)


@dataclass
class CopyPaste:
    """Copy-paste: half of another image's objects, cut out by their masks and pasted anywhere.

    Covered pixels are removed from older masks. Objects that keep less than a tenth are dropped.

    Source: Ghiasi et al. 2021, arXiv:2012.07177.
    """

    probability: float

    def __call__(
        self, annotated: AnnotatedImage, sample: Sampler, transform: AnnotationTransform
    ) -> AnnotatedImage:
        if np.random.rand() >= self.probability:
            return annotated
        other = _fitted(
            sample(), annotated.size, transform, scale=np.random.uniform(0.5, 1.0)
        ).annotated
        chosen = [a for a in _with_masks(other) if np.random.rand() < 0.5]
        if not chosen:
            return annotated
        pasted = np.any([a["segmentation"] for a in chosen], axis=0)
        image = np.where(pasted[:, :, None], other.image, annotated.image)
        older = [_without(annotation, pasted) for annotation in _with_masks(annotated)]
        return AnnotatedImage(
            image, [a for a in older if a is not None] + chosen, annotated.sem_seg
        )


@dataclass(frozen=True)
class _Placed:
    """An image inside a larger frame, and its place there: x0, y0, x1, y1 in pixels."""

    annotated: AnnotatedImage
    place: tuple[int, int, int, int]


def _extent(placed: _Placed) -> tuple[slice, slice]:
    x0, y0, x1, y1 = placed.place
    return slice(y0, y1), slice(x0, x1)


def _into_cell(
    annotated: AnnotatedImage,
    cell: tuple[int, int, int, int],
    frame: tuple[int, int],
    transform: AnnotationTransform,
) -> AnnotatedImage:
    """Scale an image to cover a cell of the frame, crop it to the cell and pad to the frame."""
    x0, y0, x1, y1 = cell
    height, width = annotated.size
    scale = max((y1 - y0) / height, (x1 - x0) / width) * np.random.uniform(1.0, 2.0)
    new_h, new_w = max(round(height * scale), y1 - y0), max(round(width * scale), x1 - x0)
    top = np.random.randint(new_h - (y1 - y0) + 1)
    left = np.random.randint(new_w - (x1 - x0) + 1)
    resize = T.ResizeTransform(height, width, new_h, new_w)
    crop = T.CropTransform(left, top, x1 - x0, y1 - y0, new_w, new_h)
    # Cropping is a step of its own, so that boxes are clipped to the cell before it is padded.
    cut = transform.apply(annotated, resize, crop)
    return transform.apply(cut, _pad(cell, frame))


def _side_by_side(
    parts: list[AnnotatedImage], cells: list[tuple[int, int, int, int]]
) -> AnnotatedImage:
    """Merge images that each fill their own cell of a common frame."""
    image = parts[0].image.copy()
    labelled = [part.sem_seg for part in parts if part.sem_seg is not None]
    sem_seg = labelled[0].copy() if len(labelled) == len(parts) else None
    for part, (x0, y0, x1, y1) in zip(parts, cells, strict=True):
        image[y0:y1, x0:x1] = part.image[y0:y1, x0:x1]
        if sem_seg is not None and part.sem_seg is not None:
            sem_seg[y0:y1, x0:x1] = part.sem_seg[y0:y1, x0:x1]
    return AnnotatedImage(image, [a for part in parts for a in part.annotations], sem_seg)


def _fitted(
    annotated: AnnotatedImage,
    frame: tuple[int, int],
    transform: AnnotationTransform,
    scale: float,
) -> _Placed:
    """Fit an image into the frame at `scale`, at a random place, mirrored half of the time."""
    height, width = annotated.size
    factor = scale * min(frame[0] / height, frame[1] / width)
    new_h = min(max(1, round(height * factor)), frame[0])
    new_w = min(max(1, round(width * factor)), frame[1])
    top, left = (np.random.randint(free + 1) for free in (frame[0] - new_h, frame[1] - new_w))
    place = left, top, left + new_w, top + new_h
    mirror = np.random.rand() < 0.5 and transform.mirrors
    flip = T.HFlipTransform(width) if mirror else T.NoOpTransform()
    resize = T.ResizeTransform(height, width, new_h, new_w)
    return _Placed(transform.apply(annotated, flip, resize, _pad(place, frame)), place)


def _pad(place: tuple[int, int, int, int], frame: tuple[int, int]) -> T.Transform:
    """Return the padding from an image to a frame in which it lies at `place`."""
    x0, y0, x1, y1 = place
    height, width = frame
    return T.PadTransform(x0, y0, width - x1, height - y1, x1 - x0, y1 - y0)


def _with_masks(annotated: AnnotatedImage) -> list[Item]:
    """Return the objects with a segmentation, decoded to (H, W) bool masks."""
    return [
        {**a, "segmentation": _mask(a["segmentation"], annotated.size)}
        for a in annotated.annotations
        if "segmentation" in a
    ]


def _mask(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, list):
        return polygons_to_bitmask(segmentation, *size).astype(bool)
    return np.asarray(segmentation, dtype=bool)


def _without(annotation: Item, covered: np.ndarray) -> Item | None:
    """Remove the covered part from an object; return None if hardly anything is left."""
    mask = annotation["segmentation"]
    left = mask & ~covered
    if left.sum() <= 0.1 * mask.sum():
        return None
    rows, columns = np.flatnonzero(left.any(axis=1)), np.flatnonzero(left.any(axis=0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=float)
    return {**annotation, "segmentation": left, "bbox": box, "bbox_mode": BoxMode.XYXY_ABS}
