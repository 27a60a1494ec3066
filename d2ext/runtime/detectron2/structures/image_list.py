"""Images of different sizes in one tensor."""

from typing import Any

import torch
from torch import Tensor, device
from torch.nn.functional import pad


class ImageList:
    """Images padded at the right and the bottom to a common size.

    TorchScript can compile this class, and `torch.jit.trace` keeps the sizes in its graph.

    Args:
        tensor: (N, H, W), or (N, C, H, W) with any number of dimensions for C.
        image_sizes: height and width of each image without the padding. While tracing each of them
            is a (2,) tensor.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx: int) -> Tensor:
        """Return an image without its padding: (H, W) or (C, H, W)."""
        size = self.image_sizes[idx]
        return self.tensor[idx, ..., : size[0], : size[1]]

    @torch.jit.unused
    def to(self, *args: Any, **kwargs: Any) -> "ImageList":
        """Move the images to another device or dtype; arguments are those of `Tensor.to`."""
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> device:  # TorchScript does not resolve torch.device here
        """Device of the tensor."""
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: list[Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: dict[str, int] | None = None,
    ) -> "ImageList":
        """Pad images to a common size.

        Args:
            tensors: images, (H, W) or (C, H, W), that differ in height and width only.
            size_divisibility: height and width become multiples of this, if it is above 1.
            pad_value: value of the padding.
            padding_constraints: "size_divisibility" overrides the argument; "square_size", if above
                0, is the height and width of all.

        Raises:
            ValueError: there is no image, images differ in more than height and width, or one is
                larger than "square_size".
        """
        _check_shapes(tensors)
        sizes = [(image.shape[-2], image.shape[-1]) for image in tensors]
        square = 0
        if padding_constraints is not None:
            size_divisibility = padding_constraints.get("size_divisibility", size_divisibility)
            square = padding_constraints.get("square_size", 0)
        height, width = _common_size(sizes, size_divisibility, square)
        padded = [
            pad(image, [0, width - size[1], 0, height - size[0]], value=pad_value)
            for image, size in zip(tensors, sizes, strict=True)
        ]
        return ImageList(torch.stack(padded), [_kept_in_graph(size) for size in sizes])


def _check_shapes(images: list[Tensor]) -> None:
    if len(images) == 0:
        raise ValueError("ImageList of no images.")
    first = images[0]
    for image in images[1:]:
        if image.shape[:-2] != first.shape[:-2]:
            raise ValueError(
                f"Images may differ in height and width only, got {image.shape} and {first.shape}."
            )


def _common_size(sizes: list[tuple[int, int]], multiple: int, square: int) -> tuple[int, int]:
    height = _largest([size[0] for size in sizes])
    width = _largest([size[1] for size in sizes])
    if square > 0:
        if max(height, width) > square:
            raise ValueError(f"An image of {height} x {width} does not fit square_size {square}.")
        height, width = square, square
    if multiple > 1:
        # Rounds up with positive numbers only, because ONNX's division rounds towards 0.
        height = (height + multiple - 1) // multiple * multiple
        width = (width + multiple - 1) // multiple * multiple
    return height, width


# While tracing, sides are 0-dimensional tensors.


def _largest(sides: list[int]) -> int:
    if isinstance(sides[0], Tensor):
        return torch.stack(sides).amax()
    return max(sides)


def _kept_in_graph(size: tuple[int, int]) -> tuple[int, int]:
    if isinstance(size[0], Tensor):
        return torch.stack(size)
    return size
