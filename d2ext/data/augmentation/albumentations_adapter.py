"""A saved albumentations pipeline as one of Detectron2's augmentations."""

from pathlib import Path
from typing import Any

import numpy as np

from d2ext.errors import ConfigError
from detectron2.data import transforms as T


class Albumentations(T.Augmentation):
    """An albumentations pipeline; boxes, polygons and points move as its keypoints.

    Albumentations counts pixel centres, Detectron2 pixel corners: half a pixel is subtracted before
    and added after. Albumentations ignores this offset when it resizes, which shifts annotations by
    up to half of the factor's difference from 1: leave resizing to INPUT.

    Args:
        path: a .yaml or .json written by `albumentations.save`.
    Raises:
        ConfigError: albumentations is not installed, or the file is not one of its pipelines.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.pipeline = _read(Path(path))

    def get_transform(self, image: np.ndarray) -> T.Transform:
        self.pipeline.set_random_seed(int(np.random.randint(2**31)))  # a function of our own seed
        result = self.pipeline(image=np.ascontiguousarray(image), keypoints=np.zeros((0, 2)))
        return AlbumentationsTransform(result["replay"], image, result["image"])


class AlbumentationsTransform(T.Transform):
    """A replay of what a pipeline did to an image, applied to the image's annotations.

    Args:
        replay: the record made by albumentations' `ReplayCompose`.
        before, after: the image before and after, (H, W, C).
    """

    def __init__(self, replay: dict[str, Any], before: np.ndarray, after: np.ndarray) -> None:
        super().__init__()
        self.replay, self.before, self.after = replay, before, after

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Return the augmented image; replay the pipeline for another image of the same size."""
        return self.after if img is self.before else self._again(image=np.ascontiguousarray(img))

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        points = np.asarray(coords, dtype=float) - 0.5
        found = self._again(image=self.before, keypoints=points, wanted="keypoints")
        return np.asarray(found, dtype=float).reshape(-1, 2) + 0.5

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self._again(image=self.before, mask=segmentation, wanted="mask")

    def _again(self, wanted: str = "image", **inputs: Any) -> Any:
        import albumentations

        inputs.setdefault("keypoints", np.zeros((0, 2)))
        return albumentations.ReplayCompose.replay(self.replay, **inputs)[wanted]


def _read(path: Path) -> Any:
    """Load the file's transforms as a `ReplayCompose` for an image, masks and points."""
    try:
        import albumentations
    except ImportError as error:
        raise ConfigError(
            f"INPUT.ALBUMENTATIONS is {path}, but albumentations cannot be imported ({error}): "
            "pip install albumentations."
        ) from error
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise ConfigError(f"INPUT.ALBUMENTATIONS: {path} is neither .yaml nor .json.")
    try:
        kind = "json" if path.suffix == ".json" else "yaml"
        pipeline = albumentations.load(path, data_format=kind)
        steps = list(pipeline.transforms)
    except Exception as error:  # whatever a file makes albumentations raise
        raise ConfigError(
            f"INPUT.ALBUMENTATIONS: {path} is not a pipeline saved by albumentations.save: {error}"
        ) from error
    points = albumentations.KeypointParams(format="xy", remove_invisible=False)
    return albumentations.ReplayCompose(steps, keypoint_params=points)
