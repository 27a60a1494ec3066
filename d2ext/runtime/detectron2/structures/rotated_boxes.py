"""Rotated boxes.

A box is its centre, its width and height in pixels, and its rotation in degrees
counter-clockwise, as seen on screen (y points down). Its width then runs along
(cos a, -sin a) and its height along (sin a, cos a).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import _C  # noqa: F401
from .boxes import Boxes, Index, Numbers, _clip_corners


class RotatedBoxes(Boxes):
    """Rotated boxes as an (N, 5) tensor: centre x and y, width, height, angle.

    Args:
        tensor: (N, 5), or anything empty, as accepted by `torch.as_tensor`; cast to float32.

    Attributes:
        tensor: (N, 5) float32.
    """

    def __init__(self, tensor: Numbers) -> None:
        tensor = torch.as_tensor(tensor).to(torch.float32)
        if tensor.numel() == 0:
            tensor = tensor.reshape(-1, 5)
        if tensor.ndim != 2 or tensor.shape[1] != 5:
            raise ValueError(f"RotatedBoxes are (N, 5), got {tensor.shape}.")
        self.tensor = tensor

    def clone(self) -> "RotatedBoxes":
        """Return a copy with its own tensor."""
        return RotatedBoxes(self.tensor.clone())

    def to(self, device: torch.device, non_blocking: bool = False) -> "RotatedBoxes":
        """Move the boxes to another device."""
        return RotatedBoxes(self.tensor.to(device=device, non_blocking=non_blocking))

    def area(self) -> Tensor:
        """Compute (N,) areas in square pixels."""
        return self.tensor[:, 2] * self.tensor[:, 3]

    def normalize_angles(self) -> None:
        """Normalise the angles to [-180, 180), in this object but not in the tensor given to it."""
        angles = (self.tensor[:, 4:] + 180) % 360 - 180
        self.tensor = torch.cat((self.tensor[:, :4], angles), dim=1)

    def clip(self, box_size: tuple[int, int], clip_angle_threshold: float = 1.0) -> None:
        """Clip nearly upright boxes to an image and normalise all angles.

        Other boxes are not clipped, because the result would not be a rectangle.

        Args:
            box_size: height and width of the image.
            clip_angle_threshold: maximum angle in degrees of a nearly upright box.
        """
        self.normalize_angles()
        centres, sizes, angles = self.tensor.split((2, 2, 1), dim=1)
        corners = torch.cat((centres - sizes / 2, centres + sizes / 2), dim=1)
        start, end = _clip_corners(corners, box_size).split(2, dim=1)
        # Rounding must not enlarge a box.
        clipped = torch.cat(((start + end) / 2, sizes.minimum(end - start), angles), dim=1)
        self.tensor = torch.where(angles.abs() <= clip_angle_threshold, clipped, self.tensor)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Return (N,) bool: both sides are longer than `threshold` pixels."""
        return (self.tensor[:, 2:4] > threshold).all(dim=1)

    def __getitem__(self, item: Index) -> "RotatedBoxes":
        """Return the boxes at an index, slice, or vector of indices or bools; may share memory."""
        if isinstance(item, int):
            return RotatedBoxes(self.tensor[item].view(1, 5))
        chosen = self.tensor[item]
        if chosen.ndim != 2:
            raise IndexError(f"RotatedBoxes cannot be indexed with {item}: it selects no rows.")
        return RotatedBoxes(chosen)

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"RotatedBoxes({self.tensor})"

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> Tensor:
        """Return (N,) bool: all corners are inside an image, or outside by less than the threshold.

        Args:
            box_size: height and width of the image.
            boundary_threshold: pixels that a corner may be outside.
        """
        centres, sizes, angles = self.tensor.split((2, 2, 1), dim=1)
        cos, sin = angles.deg2rad().cos().abs(), angles.deg2rad().sin().abs()
        # Half the sides of the enclosing box.
        reach = (cos * sizes + sin * sizes.flip(1)) / 2
        around = Boxes(torch.cat((centres - reach, centres + reach), dim=1))
        return around.inside_box(box_size, boundary_threshold)

    def get_centers(self) -> Tensor:
        """Return (N, 2) x and y of the centres."""
        return self.tensor[:, :2]

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Scale the boxes in place.

        Unless both factors are equal or the box is upright, the exact result is a parallelogram. It
        is replaced by the rectangle of its side lengths, oriented along its height.
        """
        angles = self.tensor[:, 4].deg2rad()
        cos, sin = angles.cos(), angles.sin()
        self.tensor[:, 0] *= scale_x
        self.tensor[:, 1] *= scale_y
        # The width runs along (cos, -sin) and the height along (sin, cos): scale these directions.
        self.tensor[:, 2] *= torch.hypot(scale_x * cos, scale_y * sin)
        self.tensor[:, 3] *= torch.hypot(scale_x * sin, scale_y * cos)
        self.tensor[:, 4] = torch.atan2(scale_x * sin, scale_y * cos).rad2deg()

    @classmethod
    def cat(cls, boxes_list: list["RotatedBoxes"]) -> "RotatedBoxes":  # type: ignore[override]
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
        """Iterate over the boxes as (5,) tensors."""
        yield from self.tensor


if TYPE_CHECKING:
    BoxLists = Sequence[Boxes | RotatedBoxes]
else:
    BoxLists = list[Boxes]  # TorchScript needs a concrete type


def pairwise_iou(boxes1: RotatedBoxes, boxes2: RotatedBoxes) -> Tensor:
    """Compute (N, M) pairwise IoU of N and M rotated boxes."""
    return torch.ops.detectron2.box_iou_rotated(boxes1.tensor, boxes2.tensor)
