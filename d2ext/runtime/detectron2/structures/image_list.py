"""Images of several sizes in one tensor."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


class ImageList:
    """Images padded at the right and the bottom to a common size.

    Args:
        tensor: (N, H, W), or (N, C, H, W) with any number of dimensions for C.
        image_sizes: height and width of each image without the padding.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx: int) -> Tensor:
        """An image without its padding: (H, W) or (C, H, W)."""
        height, width = self.image_sizes[idx]
        return self.tensor[idx, ..., :height, :width]

    def to(self, *args: Any, **kwargs: Any) -> "ImageList":
        """The images on another device or of another dtype; arguments as of `Tensor.to`."""
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> torch.device:
        """Where the tensor is."""
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: Sequence[Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: Mapping[str, int] | None = None,
    ) -> "ImageList":
        """Pad images to a common size.

        Args:
            tensors: images, (H, W) or (C, H, W), that differ in height and width only.
            size_divisibility: height and width become multiples of this, if it is above 1.
            pad_value: what is added.
            padding_constraints: "size_divisibility" overrides the argument; "square_size", if above
                0, is the height and width of all.

        Raises:
            ValueError: there is no image, or images differ in more than height and width, or
                one is larger than "square_size".
        """
        if len(tensors) == 0:
            raise ValueError("ImageList of no images.")
        if any(image.shape[:-2] != tensors[0].shape[:-2] for image in tensors):
            shapes = ", ".join(str(tuple(image.shape)) for image in tensors)
            raise ValueError(f"Images may differ in height and width only, got {shapes}.")
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in tensors]
        constraints = padding_constraints or {}
        height, width = _common_size(
            sizes,
            constraints.get("size_divisibility", size_divisibility),
            constraints.get("square_size", 0),
        )
        padded = [
            pad(image, (0, width - w, 0, height - h), value=pad_value)
            for image, (h, w) in zip(tensors, sizes, strict=True)
        ]
        return ImageList(torch.stack(padded), sizes)


def _common_size(sizes: list[tuple[int, int]], multiple: int, square: int) -> tuple[int, int]:
    height, width = (max(side) for side in zip(*sizes, strict=True))
    if square > 0:
        if max(height, width) > square:
            raise ValueError(f"An image of {height} x {width} does not fit square_size {square}.")
        height = width = square
    if multiple > 1:
        height, width = (-(-side // multiple) * multiple for side in (height, width))
    return height, width
