"""Sample inputs: images to run a model and its exported file on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.data.image_reading import from_rgb, read_image
from d2ext.data.shapes_render import render
from d2ext.exporters.exporter import Exporter

BATCHES = (1, 3)  # batch sizes that are compared


def sample_batches(
    exporter: Exporter,
    files: Sequence[Path],
    channel_order: str,
    size: tuple[int, int] | None,
) -> list[Tensor]:
    """Return a batch of (B, C, H, W) float32 pixels for every B of `BATCHES`.

    Args:
        size: (height, width); None gives each batch another size.
        files: images, of which the first are used; without any, pictures of shapes.
    """
    images = [read_image(str(file), format="RGB") for file in files[: max(BATCHES)]]
    images = images or [render(7, number)[0] for number in range(max(BATCHES))]
    sizes = [size, size] if size else free_sizes(exporter)
    return [
        torch.stack([as_input(images[n % len(images)], channel_order, *own) for n in range(count)])
        for count, own in zip(BATCHES, sizes, strict=True)
    ]


def sample_images(files: Sequence[Path]) -> list[np.ndarray]:
    """Return the first two files as (H, W, 3) RGB uint8; without any, pictures of shapes."""
    if files:
        return [read_image(str(file), format="RGB") for file in files[:2]]
    picture = render(7, 0)[0]
    height, width = picture.shape[:2]
    # Upright and wide, of sides that are multiples of nothing.
    return [picture[:, : width * 3 // 4 - 1], picture[: height * 2 // 3 - 1]]


def free_sizes(exporter: Exporter) -> list[tuple[int, int]]:
    """Return two (height, width), in pixels, for a model that takes any."""
    multiple = exporter.multiple
    first = -(-256 // multiple) * multiple
    # Where the file pads, sides that it has to pad.
    step = max(multiple, exporter.stride - 1)
    return [(first, first + 2 * step), (first + step, first)]


def as_input(image: np.ndarray, channel_order: str, height: int, width: int) -> Tensor:
    """Stretch a (H, W, 3) RGB uint8 image to (C, height, width) float32."""
    ordered = from_rgb(image, channel_order)
    tensor = torch.as_tensor(np.ascontiguousarray(ordered.transpose(2, 0, 1)))
    return F.interpolate(tensor[None].float(), (height, width), mode="bilinear")[0]
