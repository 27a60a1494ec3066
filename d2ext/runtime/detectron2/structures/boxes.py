"""Axis-aligned boxes, box formats, and measures between boxes."""

from collections.abc import Callable, Sequence
from enum import IntEnum, unique
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    Index = Any
    Numbers = Tensor | Sequence | np.ndarray
else:
    Index = Numbers = Tensor  # TorchScript reads the annotations and needs a concrete type

RawBox = list[float] | tuple[float, ...] | Tensor | np.ndarray


@unique
class BoxMode(IntEnum):
    """Format of the numbers of a box."""

    XYXY_ABS = 0  # left, top, right, bottom, in pixels
    XYWH_ABS = 1  # left, top, width, height, in pixels
    XYXY_REL = 2  # as XYXY_ABS, in sizes of the image; cannot be converted
    XYWH_REL = 3  # as XYWH_ABS, in sizes of the image; cannot be converted
    XYWHA_ABS = 4  # centre, width, height, in pixels, and degrees counter-clockwise

    @staticmethod
    def convert(box: RawBox, from_mode: "BoxMode", to_mode: "BoxMode") -> RawBox:
        """Convert a box or boxes to another format, keeping their type.

        Args:
            box: a box as a list or tuple of 4 or 5 numbers, or boxes as an (N, 4) or (N, 5) array
                or tensor.
            from_mode: the format of `box`.
            to_mode: the target format. XYXY_ABS and XYWH_ABS convert to each other, XYWH_ABS to
                XYWHA_ABS, and XYWHA_ABS to the enclosing XYXY_ABS box.

        Raises:
            NotImplementedError: there is no conversion between these formats.
            ValueError: the number of coordinates is not that of the format.
        """
        if from_mode == to_mode:
            return box
        conversion = _CONVERSIONS.get((from_mode, to_mode))
        if conversion is None:
            raise NotImplementedError(
                f"No conversion of boxes from {BoxMode(from_mode).name} to {BoxMode(to_mode).name}."
            )
        # `as_tensor` shares memory with an array and keeps its dtype.
        boxes = torch.as_tensor(box)
        is_sequence = isinstance(box, (list, tuple))
        expected = 5 if from_mode == BoxMode.XYWHA_ABS else 4
        if boxes.shape[-1] != expected or (is_sequence and boxes.ndim != 1):
            raise ValueError(
                f"A {BoxMode(from_mode).name} box has {expected} numbers, got shape "
                f"{tuple(boxes.shape)}; a list is one box."
            )
        converted = conversion(boxes)
        if is_sequence:
            return type(box)(converted.tolist())
        return converted.numpy() if isinstance(box, np.ndarray) else converted


def _xyxy_to_xywh(boxes: Tensor) -> Tensor:
    return torch.cat((boxes[..., :2], boxes[..., 2:] - boxes[..., :2]), dim=-1)


def _xywh_to_xyxy(boxes: Tensor) -> Tensor:
    return torch.cat((boxes[..., :2], boxes[..., :2] + boxes[..., 2:]), dim=-1)


def _xywh_to_xywha(boxes: Tensor) -> Tensor:
    centres = boxes[..., :2] + boxes[..., 2:] / 2
    angles = torch.zeros_like(boxes[..., :1])
    return torch.cat((centres.to(boxes.dtype), boxes[..., 2:], angles), dim=-1)


def _xywha_to_xyxy(boxes: Tensor) -> Tensor:
    # Double precision against the rounding errors of the trigonometric functions.
    centres, sizes, angles = boxes.double().split((2, 2, 1), dim=-1)
    cos, sin = angles.deg2rad().cos().abs(), angles.deg2rad().sin().abs()
    outer = cos * sizes + sin * sizes.flip(-1)  # width and height of the enclosing box
    return torch.cat((centres - outer / 2, centres + outer / 2), dim=-1).to(boxes.dtype)


_CONVERSIONS: dict[tuple[int, int], Callable[[Tensor], Tensor]] = {
    (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS): _xyxy_to_xywh,
    (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS): _xywh_to_xyxy,
    (BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS): _xywh_to_xywha,
    (BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS): _xywha_to_xyxy,
}


class Boxes:
    """Boxes as an (N, 4) tensor: left, top, right, bottom.

    TorchScript can compile this class.

    Args:
        tensor: (N, 4), or anything empty, as accepted by `torch.as_tensor`; cast to float32.

    Attributes:
        tensor: (N, 4) float32.
    """

    def __init__(self, tensor: Numbers) -> None:
        tensor = torch.as_tensor(tensor).to(torch.float32)
        if tensor.numel() == 0:
            # An empty list has shape (0,): give it the columns of boxes.
            tensor = tensor.reshape(-1, 4)
        if tensor.ndim != 2 or tensor.shape[1] != 4:
            raise ValueError(f"Boxes are (N, 4), got {tensor.shape}.")
        self.tensor = tensor

    def clone(self) -> "Boxes":
        """Return a copy with its own tensor."""
        return Boxes(self.tensor.clone())

    def to(self, device: torch.device) -> "Boxes":
        """Move the boxes to another device."""
        return Boxes(self.tensor.to(device=device))

    def area(self) -> Tensor:
        """Compute (N,) areas in square pixels."""
        width_height = self.tensor[:, 2:] - self.tensor[:, :2]
        return width_height[:, 0] * width_height[:, 1]

    def clip(self, box_size: tuple[int, int]) -> None:
        """Clip the boxes to an image, in this object but not in the tensor given to it.

        Args:
            box_size: height and width of the image.

        Raises:
            FloatingPointError: a coordinate is not finite.
        """
        if not torch.jit.is_tracing() and not torch.isfinite(self.tensor).all():
            raise FloatingPointError("Boxes have infinite or NaN coordinates.")
        self.tensor = _clip_corners(self.tensor, box_size)

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Scale the coordinates in place."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Return (N,) bool: both sides are longer than `threshold` pixels."""
        return (self.tensor[:, 2:] - self.tensor[:, :2] > threshold).all(dim=1)

    def __getitem__(self, item: Index) -> "Boxes":
        """Return the boxes at an index, slice, or vector of indices or bools; may share memory."""
        if isinstance(item, int):
            return Boxes(self.tensor[item].view(1, 4))
        chosen = self.tensor[item]
        if chosen.ndim != 2:
            raise IndexError(f"Boxes cannot be indexed with {item}: it selects no rows.")
        return Boxes(chosen)

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> Tensor:
        """Return (N,) bool: the box is inside an image, or outside by less than the threshold.

        Args:
            box_size: height and width of the image.
            boundary_threshold: pixels by which a box may extend beyond the image.
        """
        height, width = box_size
        starts_inside = (self.tensor[:, :2] >= -boundary_threshold).all(dim=1)
        right, bottom = self.tensor[:, 2], self.tensor[:, 3]
        ends_inside = (right < width + boundary_threshold) & (bottom < height + boundary_threshold)
        return starts_inside & ends_inside

    def get_centers(self) -> Tensor:
        """Return (N, 2) x and y of the centres."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    @classmethod
    def cat(cls, boxes_list: list["Boxes"]) -> "Boxes":
        """Concatenate boxes in a new tensor; an empty list gives no boxes."""
        if len(boxes_list) == 0:
            return cls(torch.empty(0))
        return cls(torch.cat([boxes.tensor for boxes in boxes_list]))

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    @torch.jit.unused
    def __iter__(self) -> Any:  # TorchScript does not support Iterator
        """Iterate over the boxes as (4,) tensors."""
        yield from self.tensor


def _clip_corners(corners: Tensor, box_size: tuple[int, int]) -> Tensor:
    """Clip (N, 4) XYXY to an image of the given height and width."""
    height, width = box_size
    x = corners[:, 0::2].clamp(min=0, max=width)
    y = corners[:, 1::2].clamp(min=0, max=height)
    return torch.stack((x, y), dim=-1).flatten(1)


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Compute (N, M) areas of the pairwise intersections of N and M boxes."""
    return _intersection(boxes1.tensor[:, None], boxes2.tensor[None])


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Compute (N, M) pairwise IoU of N and M boxes; 0 for disjoint boxes."""
    common = pairwise_intersection(boxes1, boxes2)
    return _ratio(common, boxes1.area()[:, None] + boxes2.area() - common)


def pairwise_ioa(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Compute (N, M) pairwise intersections over the areas of the M boxes."""
    common = pairwise_intersection(boxes1, boxes2)
    return _ratio(common, boxes2.area().expand_as(common))


def matched_pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Compute (N,) IoU of each box in `boxes1` with the box of the same index in `boxes2`.

    Raises:
        ValueError: the numbers of boxes differ.
    """
    if len(boxes1) != len(boxes2):
        raise ValueError(f"Cannot match {len(boxes1)} boxes with {len(boxes2)}.")
    common = _intersection(boxes1.tensor, boxes2.tensor)
    return common / (boxes1.area() + boxes2.area() - common)


def pairwise_point_box_distance(points: Tensor, boxes: Boxes) -> Tensor:
    """Compute the distances of points from the sides of boxes, positive inside.

    Args:
        points: (N, 2) x and y.
        boxes: M boxes.

    Returns:
        (N, M, 4) pixels from the left, top, right and bottom side.
    """
    point = points[:, None]
    return torch.cat((point - boxes.tensor[:, :2], boxes.tensor[:, 2:] - point), dim=-1)


def _intersection(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    start = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    end = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    return (end - start).clamp(min=0).prod(dim=-1)


def _ratio(common: Tensor, whole: Tensor) -> Tensor:
    # Disjoint boxes may both have area 0: avoid 0 / 0.
    return torch.where(common > 0, common / whole, common.new_zeros(()))
