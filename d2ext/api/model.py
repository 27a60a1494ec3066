"""Load a trained model and predict on images in memory or in files."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from d2ext.api.arguments import as_pairs
from d2ext.api.prediction import Prediction
from d2ext.data.image_reading import as_rgb
from d2ext.engine.config_choice import load_trained_config
from d2ext.errors import ConfigError
from d2ext.inference.inputs import find_images
from d2ext.inference.predictor import Predictor
from d2ext.inference.reading import read_file
from d2ext.inference.tracking import RATE, ByteTracker, frame_order
from d2ext.inference.video import SUFFIXES, open_video

ImageInput = str | Path | NDArray | torch.Tensor | Image.Image


class Model:
    """A trained model.

    Attributes:
        names: of the classes, in the order of their indices; may be empty.
        predictor: runs the model on one image; its `model` is the `torch.nn.Module`.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.names = predictor.names

    def predict(
        self, images: ImageInput | Sequence[ImageInput], confidence: float = 0.5
    ) -> list[Prediction]:
        """Predict on images.

        Args:
            images: one or several of: a file, a folder or a pattern such as "photos/*.jpg"; an
                (H, W, 3) or (H, W) uint8 array, RGB or grey; a (3, H, W) uint8 tensor, RGB; an
                image of Pillow.
            confidence: minimum score of a detection, 0 to 1.
        Returns:
            One prediction per image, in the order given; those of a folder sorted by path.
        Raises:
            DataError: a file is missing or cannot be read.
            ConfigError: an image is of another type, shape or dtype, or `confidence` no score.
        """
        _check_confidence(confidence)
        given = list(images) if isinstance(images, (list, tuple)) else [images]
        return [
            Prediction.of(self.predictor(pixels), pixels, self.names, confidence, file)
            for pixels, file in _read_all(given)
        ]

    def track(
        self, frames: ImageInput | Iterable[ImageInput], confidence: float = 0.5, rate: float = RATE
    ) -> Iterator[Prediction]:
        """Predict on the frames of a video; an object keeps its number, `instances.track_ids`.

        Args:
            frames: a video file; a folder of frames, in the order of their numbers; or frames one
                by one, of the types that `predict` takes.
            confidence: minimum score of the first detection of an object, 0 to 1.
            rate: frames per second, where `frames` is no video file.
        Yields:
            A prediction per frame.
        Raises:
            UserError: as `predict`; or the video cannot be read, or the model finds no objects.
        """
        _check_confidence(confidence)
        if isinstance(frames, (str, Path)) and Path(frames).suffix.lower() in SUFFIXES:
            with open_video(Path(frames)) as video:
                images = ((frame, "") for frame in video.frames())
                yield from self._track(images, ByteTracker(confidence, video.rate))
        else:
            yield from self._track(_frames_of(frames), ByteTracker(confidence, rate))

    def _track(
        self, images: Iterable[tuple[NDArray[np.uint8], str]], tracker: ByteTracker
    ) -> Iterator[Prediction]:
        for pixels, file in images:
            output = self.predictor(pixels)
            yield Prediction.of(output, pixels, self.names, tracker.confidence, file, tracker)


def load(weights: str | Path, *, config: str | Path = "", device: str = "", **keys: Any) -> Model:
    """Load a trained model.

    Args:
        weights: a file, URL or name, as MODEL.WEIGHTS takes it.
        config: the model's config file; "" takes the one that d2ext stored with the weights.
        device: such as "cuda:1"; "" for a GPU where there is one.
        keys: config values by key, `**{"TEST.DETECTIONS_PER_IMAGE": 300}`.
    Raises:
        UserError: the weights are missing or of another model, or a key or value is wrong.
    """
    values = {"MODEL.WEIGHTS": str(weights), "MODEL.DEVICE": device} | keys
    return Model(Predictor(load_trained_config(str(config), as_pairs(values))))


def _check_confidence(confidence: float) -> None:
    if not 0 <= confidence <= 1:
        raise ConfigError(f"confidence is a score from 0 to 1, got {confidence}.")


def _frames_of(frames: Any) -> Iterator[tuple[NDArray[np.uint8], str]]:
    if isinstance(frames, (str, Path)):
        files = find_images([str(frames)], output=None, flag="frames")
        return _read_all(sorted(files, key=frame_order))
    return _read_all(frames)


def _read_all(images: Iterable[Any]) -> Iterator[tuple[NDArray[np.uint8], str]]:
    """Yield (H, W, 3) RGB uint8 pixels of each image, and its file, "" where it has none."""
    for image in images:
        if isinstance(image, (str, Path)):
            for file in find_images([str(image)], output=None, flag="images"):
                yield read_file(file), str(file)
        else:
            yield _as_rgb(image), ""


def _as_rgb(image: Any) -> NDArray[np.uint8]:
    if isinstance(image, Image.Image):
        return as_rgb(image)
    is_tensor = isinstance(image, torch.Tensor)
    array = image.permute(1, 2, 0).cpu().numpy() if is_tensor and image.ndim == 3 else image
    if not isinstance(array, np.ndarray):
        raise ConfigError(
            f"images: a {type(image).__name__} is no image. Give files, folders, (H, W, 3) arrays, "
            "(3, H, W) tensors or images of Pillow."
        )
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
        expected = "(3, H, W)" if is_tensor else "(H, W, 3)"
        raise ConfigError(
            f"images: expected {expected} of uint8, RGB, got {tuple(image.shape)} of {image.dtype}."
        )
    return np.ascontiguousarray(array)
