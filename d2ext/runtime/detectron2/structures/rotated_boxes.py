"""Boxes at any angle.

A box is its centre, its width and height in pixels, and the angle in degrees by which it is turned
counter-clockwise, as seen on the screen (y points down). Its width then runs along
(cos a, -sin a) and its height along (sin a, cos a).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import _C  # noqa: F401
from .boxes import Boxes, Index, Numbers, _clip_corners


class RotatedBoxes:
    """Rotated boxes as an (N, 5) tensor: centre x and y, width, height, angle.

    TorchScript can compile this class.

    Args:
        tensor: (N, 5), or anything empty; what `torch.as_tensor` takes, turned into float32.

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
        """A copy with its own tensor."""
        return RotatedBoxes(self.tensor.clone())

    def to(self, device: torch.device, non_blocking: bool = False) -> "RotatedBoxes":
        """The same boxes on another device."""
        return RotatedBoxes(self.tensor.to(device=device, non_blocking=non_blocking))

    def area(self) -> Tensor:
        """(N,) areas in square pixels."""
        return self.tensor[:, 2] * self.tensor[:, 3]

    def normalize_angles(self) -> None:
        """Bring the angles into [-180, 180), in this object but not in its first tensor."""
        angles = (self.tensor[:, 4:] + 180) % 360 - 180
        self.tensor = torch.cat((self.tensor[:, :4], angles), dim=1)

    def clip(self, box_size: tuple[int, int], clip_angle_threshold: float = 1.0) -> None:
        """Cut those boxes at the image's border that are almost upright; normalise all angles.

        Others cannot be cut and stay rectangles.

        Args:
            box_size: height and width of the image.
            clip_angle_threshold: degrees up to which a box is almost upright.
        """
        self.normalize_angles()
        centres, sizes, angles = self.tensor.split((2, 2, 1), dim=1)
        corners = torch.cat((centres - sizes / 2, centres + sizes / 2), dim=1)
        start, end = _clip_corners(corners, box_size).split(2, dim=1)
        # Rounding must not make a box grow.
        clipped = torch.cat(((start + end) / 2, sizes.minimum(end - start), angles), dim=1)
        self.tensor = torch.where(angles.abs() <= clip_angle_threshold, clipped, self.tensor)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """(N,) bool: both sides are longer than `threshold` pixels."""
        return (self.tensor[:, 2:4] > threshold).all(dim=1)

    def __getitem__(self, item: Index) -> "RotatedBoxes":
        """The boxes at an index, a slice, or a vector of indices or bools. May share memory."""
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
        """(N,) bool: all corners are inside an image, or outside by less than the threshold.

        Args:
            box_size: height and width of the image.
            boundary_threshold: pixels that a corner may be outside.
        """
        centres, sizes, angles = self.tensor.split((2, 2, 1), dim=1)
        cos, sin = angles.deg2rad().cos().abs(), angles.deg2rad().sin().abs()
        reach = (cos * sizes + sin * sizes.flip(1)) / 2  # of the corners, in x and y
        around = Boxes(torch.cat((centres - reach, centres + reach), dim=1))
        return around.inside_box(box_size, boundary_threshold)

    def get_centers(self) -> Tensor:
        """(N, 2) x and y of the centres."""
        return self.tensor[:, :2]

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Stretch the boxes, in place.

        Unless both factors are equal, or the box upright, the result would be a parallelogram: the
        rectangle of its side lengths, turned as its height is, stands for it.
        """
        angles = self.tensor[:, 4].deg2rad()
        cos, sin = angles.cos(), angles.sin()
        self.tensor[:, 0] *= scale_x
        self.tensor[:, 1] *= scale_y
        self.tensor[:, 2] *= torch.hypot(scale_x * cos, scale_y * sin)
        self.tensor[:, 3] *= torch.hypot(scale_x * sin, scale_y * cos)
        self.tensor[:, 4] = torch.atan2(scale_x * sin, scale_y * cos).rad2deg()

    @classmethod
    def cat(cls, boxes_list: list["RotatedBoxes"]) -> "RotatedBoxes":
        """All boxes of a list, in a new tensor; none for an empty list."""
        if len(boxes_list) == 0:
            return cls(torch.empty(0))
        return cls(torch.cat([boxes.tensor for boxes in boxes_list]))

    @property
    def device(self) -> torch.device:
        """Where the tensor is."""
        return self.tensor.device

    @torch.jit.unused
    def __iter__(self) -> Any:  # TorchScript knows no Iterator
        """One (5,) tensor a box."""
        yield from self.tensor


if TYPE_CHECKING:
    BoxLists = Sequence[Boxes | RotatedBoxes]
else:
    BoxLists = list[Boxes]  # what TorchScript compiles functions for


def pairwise_iou(boxes1: RotatedBoxes, boxes2: RotatedBoxes) -> Tensor:
    """(N, M) intersections over unions of N and M rotated boxes."""
    return torch.ops.detectron2.box_iou_rotated(boxes1.tensor, boxes2.tensor)
