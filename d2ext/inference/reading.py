"""Read image files for prediction, in worker processes, and batch those of one size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from d2ext.data.formats.image_files import UNREADABLE_IMAGE
from d2ext.data.image_reading import read_image
from d2ext.errors import DataError
from d2ext.processes import shield_worker

WAITING = 8  # batches of other sizes that wait for more images

# Of the inputs of a batch together. Small inputs gain most: on a CPU, a batch of 8 of 128 x 171
# pixels takes 16 ms per image, single ones 40 ms.
_CPU_PIXELS, _GPU_PIXELS = 2**18, 2**23


@dataclass(frozen=True)
class LoadedImage:
    """An image file that was read, or why it could not be.

    Args:
        number: position among the files.
        height, width: of the image, in pixels.
        pixels: the model's input, (C, h, w) uint8; None if reading failed.
        image: (H, W, 3) RGB uint8, where pictures are drawn.
        error: message; "" if reading succeeded.
    """

    number: int
    height: int = 0
    width: int = 0
    pixels: Tensor | None = None
    image: np.ndarray | None = None
    error: str = ""


class ImageFiles(Dataset):
    """Image files by position.

    Args:
        prepare: maps an (H, W, 3) RGB uint8 image to the model's input.
        keep: also return the images, for drawing.
    """

    def __init__(
        self, files: Sequence[Path], prepare: Callable[[np.ndarray], Tensor], keep: bool
    ) -> None:
        self.files, self.prepare, self.keep = files, prepare, keep

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> LoadedImage:
        try:
            image = read_file(self.files[number])
            pixels = self.prepare(image)
        except DataError as error:
            return LoadedImage(number, error=str(error))
        except Exception as error:  # one odd image of many must not end the command
            return LoadedImage(number, error=f"{self.files[number]} ({error})")
        height, width = image.shape[:2]
        return LoadedImage(number, height, width, pixels, image if self.keep else None)


def read_images(files: ImageFiles, workers: int) -> Iterable[LoadedImage]:
    """Read all files in their order.

    Args:
        workers: number of processes; 0 reads in this one.
    """
    return DataLoader(
        files,
        batch_size=None,
        num_workers=workers if len(files) > 1 else 0,
        collate_fn=_unchanged,  # type: ignore[arg-type] # a single item, without batch_size
        worker_init_fn=shield_worker,
        generator=torch.Generator(),
    )


def batch_size_for(pixels: Tensor, on_gpu: bool) -> int:
    """Return how many inputs of this size make a batch: many small ones, few large ones."""
    height, width = pixels.shape[-2:]
    return max(1, min(16, (_GPU_PIXELS if on_gpu else _CPU_PIXELS) // (height * width)))


def same_size_batches(
    images: Iterable[LoadedImage], size: Callable[[Tensor], int]
) -> Iterator[list[LoadedImage]]:
    """Group images whose inputs have one size, so that no image is padded for another's sake.

    A model may look at the padding, so predictions would depend on the other images of a batch.
    Unreadable images come alone, as soon as they are met.

    Args:
        size: returns the number of images per batch for an input.
    """
    waiting: dict[tuple[int, ...], list[LoadedImage]] = {}
    for image in images:
        if image.pixels is None:
            yield [image]
            continue
        group = waiting.setdefault(tuple(image.pixels.shape), [])
        group.append(image)
        if len(group) >= size(image.pixels):
            yield waiting.pop(tuple(image.pixels.shape))
        elif len(waiting) > WAITING:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def read_file(file: Path) -> np.ndarray:
    """Read an image as (H, W, 3) RGB uint8, upright.

    Raises:
        DataError: it is no image, or damaged.
    """
    try:
        return read_image(str(file), format="RGB")
    except UnidentifiedImageError as error:
        raise DataError(f"{file} (not an image)") from error
    except UNREADABLE_IMAGE as error:
        raise DataError(f"{file} ({error})") from error


def _unchanged(item: LoadedImage) -> LoadedImage:
    return item
