"""Segmentation masks: bit masks, polygons, and masks inside boxes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes, roi_align

from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.utils.memory import retry_if_cuda_oom
from detectron2.utils.run_lengths import FARTHEST, check_polygons

from .boxes import Boxes

# Minimum side in pixels of a box that a mask is cropped to, against division by 0.
_MIN_CROP_SIZE = 0.1


def polygon_area(x: np.ndarray, y: np.ndarray) -> float:
    """Compute the area of a polygon by the shoelace formula."""
    return 0.5 * float(np.abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def polygons_to_bitmask(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Rasterize polygons: pixels inside any of them.

    Args:
        polygons: each x0, y0, x1, y1, ... in pixels.
        height: height of the mask.
        width: width of the mask.

    Returns:
        (height, width) bool, by COCO's rules.

    Raises:
        ValueError: a polygon cannot be drawn; see `detectron2.utils.run_lengths.check_polygons`.
    """
    if len(polygons) == 0:
        return np.zeros((height, width), dtype=bool)
    check_polygons(polygons)
    runs = mask_util.merge(mask_util.frPyObjects(polygons, height, width))
    return mask_util.decode(runs).astype(bool)


def rasterize_polygons_within_box(
    polygons: list[np.ndarray], box: np.ndarray, mask_size: int
) -> Tensor:
    """Crop polygons to an XYXY box, resize and rasterize: (mask_size, mask_size) bool."""
    start = np.asarray(box[:2], dtype=np.float64)
    size = np.maximum(np.asarray(box[2:], dtype=np.float64) - start, _MIN_CROP_SIZE)
    scaled = [
        ((np.asarray(polygon).reshape(-1, 2) - start) * (mask_size / size)).reshape(-1)
        for polygon in polygons
    ]
    # Seen from a tiny box, points of the same image are millions of pixels away.
    scaled = [polygon.clip(-FARTHEST, FARTHEST) for polygon in scaled]
    return torch.from_numpy(polygons_to_bitmask(scaled, mask_size, mask_size))


class BitMasks:
    """Bit masks of one image.

    Args:
        tensor: (N, H, W); cast to bool.

    Attributes:
        tensor: (N, H, W) bool.
        image_size: H and W.
    """

    def __init__(self, tensor: Tensor | np.ndarray | Sequence) -> None:
        self.tensor = torch.as_tensor(tensor).to(torch.bool)
        if self.tensor.ndim != 3:
            raise ValueError(f"BitMasks are (N, H, W), got {tuple(self.tensor.shape)}.")
        self.image_size = self.tensor.shape[1:]

    def to(self, *args: Any, **kwargs: Any) -> "BitMasks":
        """Move the masks to another device; arguments are those of `Tensor.to`."""
        return BitMasks(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    def __getitem__(self, item: Any) -> "BitMasks":
        """Return the masks at an index, slice, or vector of indices or bools; may share memory."""
        if isinstance(item, int):
            return BitMasks(self.tensor[item][None])
        chosen = self.tensor[item]
        if chosen.ndim != 3:
            raise IndexError(f"BitMasks cannot be indexed with {item!r}: it selects no masks.")
        return BitMasks(chosen)

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over the masks as (H, W) tensors."""
        yield from self.tensor

    def __repr__(self) -> str:
        return f"BitMasks(num_instances={len(self)})"

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def nonempty(self) -> Tensor:
        """Return (N,) bool: any bit is set."""
        return self.tensor.flatten(1).any(dim=1)

    @staticmethod
    def from_polygon_masks(
        polygon_masks: "PolygonMasks | list[list[np.ndarray]]", height: int, width: int
    ) -> "BitMasks":
        """Rasterize polygons on an image of the given size."""
        polygons = getattr(polygon_masks, "polygons", polygon_masks)
        masks = [polygons_to_bitmask(instance, height, width) for instance in polygons]
        return BitMasks(torch.from_numpy(np.array(masks).reshape(-1, height, width)))

    @staticmethod
    def from_roi_masks(
        roi_masks: "ROIMasks", height: int, width: int, boxes: Boxes | None = None
    ) -> "BitMasks":
        """Paste masks inside boxes into an image of the given size.

        Raises:
            TypeError: there are no boxes, which the original does not accept and then misses.
        """
        if boxes is None:
            raise TypeError("from_roi_masks needs the boxes; or call ROIMasks.to_bitmasks")
        return roi_masks.to_bitmasks(boxes, height, width)

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Crop each mask to its box and resize it.

        Args:
            boxes: (N, 4) XYXY, one per mask.
            mask_size: side of the cropped masks.

        Returns:
            (N, mask_size, mask_size) bool: bilinear samples of at least one half.
        """
        _require_box_for_each(boxes, len(self))
        indices = torch.arange(len(boxes), device=boxes.device).to(boxes.dtype)
        rois = torch.cat((indices[:, None], boxes), dim=1)
        masks = self.tensor.to(torch.float32)[:, None]
        samples = roi_align(masks, rois.to(masks), mask_size, sampling_ratio=0, aligned=True)
        # RoIAlign averages bilinear samples of the mask; half coverage counts as inside.
        return samples[:, 0] >= 0.5

    def get_bounding_boxes(self) -> Boxes:
        """Return the box around each mask; all zero for an empty one."""
        boxes = torch.zeros(len(self), 4, dtype=torch.float32)
        filled = self.nonempty()
        # `masks_to_boxes` ends at the last pixel's index; boxes end at its far border.
        inclusive = masks_to_boxes(self.tensor[filled])
        boxes[filled.cpu()] = inclusive.cpu() + inclusive.new_tensor([0, 0, 1, 1]).cpu()
        return Boxes(boxes)

    @staticmethod
    def cat(bitmasks_list: Sequence["BitMasks"]) -> "BitMasks":
        """Concatenate masks of a non-empty list."""
        return BitMasks(torch.cat([masks.tensor for masks in bitmasks_list]))


class PolygonMasks:
    """Polygon masks of one image.

    Args:
        polygons: per object a list of polygons, each x0, y0, x1, y1, ... in pixels, of at least
            three points.

    Attributes:
        polygons: the same, as float64 arrays.
    """

    def __init__(self, polygons: Sequence[Sequence[Tensor | np.ndarray | Sequence]]) -> None:
        if not isinstance(polygons, (list, tuple)):
            raise ValueError(f"PolygonMasks need a list of objects, got {type(polygons)}.")
        self.polygons = [_checked_polygons(instance) for instance in polygons]

    def to(self, *args: Any, **kwargs: Any) -> "PolygonMasks":
        """Return this object: polygons stay on the CPU."""
        return self

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def get_bounding_boxes(self) -> Boxes:
        """Return the box around each mask; (inf, inf, 0, 0) for one without polygons."""
        boxes = torch.tensor([[float("inf"), float("inf"), 0, 0]]).repeat(len(self), 1)
        for row, polygons in enumerate(self.polygons):
            if polygons:
                points = torch.from_numpy(np.concatenate(polygons)).view(-1, 2).float()
                boxes[row] = torch.cat((points.amin(dim=0), points.amax(dim=0)))
        return Boxes(boxes)

    def nonempty(self) -> Tensor:
        """Return (N,) bool: the mask has a polygon."""
        return torch.tensor([len(polygons) > 0 for polygons in self.polygons], dtype=torch.bool)

    def __getitem__(self, item: Any) -> "PolygonMasks":
        """Return the masks at an index, a slice, or a list or vector of indices or bools.

        Raises:
            IndexError: `item` is none of these.
        """
        if isinstance(item, slice):
            return PolygonMasks(self.polygons[item])
        chosen = torch.as_tensor(item)
        if chosen.ndim > 1 or (chosen.is_floating_point() and chosen.numel() > 0):
            raise IndexError(f"PolygonMasks cannot be indexed with {item!r}.")
        if chosen.dtype == torch.bool:
            chosen = chosen.nonzero()
        return PolygonMasks([self.polygons[int(row)] for row in chosen.flatten()])

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        """Iterate over the masks as lists of polygons."""
        return iter(self.polygons)

    def __repr__(self) -> str:
        return f"PolygonMasks(num_instances={len(self)})"

    def __len__(self) -> int:
        return len(self.polygons)

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Crop each mask to its box, resize and rasterize it.

        Args:
            boxes: (N, 4) XYXY, one per mask.
            mask_size: side of the cropped masks.

        Returns:
            (N, mask_size, mask_size) bool, on the device of `boxes`.
        """
        _require_box_for_each(boxes, len(self))
        masks = [
            rasterize_polygons_within_box(polygons, box, mask_size)
            for polygons, box in zip(self.polygons, boxes.detach().cpu().numpy(), strict=True)
        ]
        empty = torch.empty(0, mask_size, mask_size, dtype=torch.bool)
        return (torch.stack(masks) if masks else empty).to(boxes.device)

    def area(self) -> Tensor:
        """Compute (N,) float64 areas in square pixels, summed over each mask's polygons."""
        areas = [sum(polygon_area(p[0::2], p[1::2]) for p in polygons) for polygons in self]
        return torch.tensor(areas, dtype=torch.float64)

    @staticmethod
    def cat(polymasks_list: Sequence["PolygonMasks"]) -> "PolygonMasks":
        """Concatenate masks of a non-empty list."""
        if len(polymasks_list) == 0:
            raise ValueError("PolygonMasks.cat of an empty list.")
        return PolygonMasks([polygons for masks in polymasks_list for polygons in masks])


class ROIMasks:
    """Masks of one image inside boxes that are kept elsewhere.

    Args:
        tensor: (N, M, M) probabilities, each over its box.

    Attributes:
        tensor: the same.
    """

    def __init__(self, tensor: Tensor) -> None:
        if tensor.ndim != 3:
            raise ValueError(f"ROIMasks are (N, M, M), got {tuple(tensor.shape)}.")
        self.tensor = tensor

    def to(self, device: torch.device | str) -> "ROIMasks":
        """Move the masks to another device."""
        return ROIMasks(self.tensor.to(device))

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __getitem__(self, item: Any) -> "ROIMasks":
        """Return the masks at a slice or a vector of indices or bools; may share memory."""
        return ROIMasks(self.tensor[item])

    def __repr__(self) -> str:
        return f"ROIMasks(num_instances={len(self)})"

    def to_bitmasks(
        self, boxes: Boxes, height: int, width: int, threshold: float = 0.5
    ) -> BitMasks:
        """Paste the masks into the whole image; see `detectron2.layers.paste_masks_in_image`."""
        paste = retry_if_cuda_oom(paste_masks_in_image)
        return BitMasks(paste(self.tensor, boxes.tensor, (height, width), threshold=threshold))


def _checked_polygons(instance: Sequence[Tensor | np.ndarray | Sequence]) -> list[np.ndarray]:
    if not isinstance(instance, (list, tuple)):
        raise ValueError(f"PolygonMasks need a list of polygons an object, got {type(instance)}.")
    polygons = [
        np.asarray(p.cpu() if isinstance(p, Tensor) else p, dtype=np.float64) for p in instance
    ]
    for polygon in polygons:
        if len(polygon) % 2 != 0 or len(polygon) < 6:
            raise ValueError(f"A polygon has x and y of three points or more, got {polygon}.")
    return polygons


def _require_box_for_each(boxes: Tensor, masks: int) -> None:
    if len(boxes) != masks:
        raise ValueError(f"{masks} masks need a box each to be cropped by, got {len(boxes)}.")
