"""The interface of augmentations: random policies that look at data and return a transform."""

import inspect
import pprint
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from fvcore.transforms.transform import Transform, TransformList

__all__ = [
    "AugInput",
    "Augmentation",
    "AugmentationList",
    "StandardAugInput",
    "TransformGen",
    "apply_augmentations",
    "apply_transform_gens",
]


class Augmentation:
    """A policy whose `get_transform` reads inputs by the names of its parameters.

    A policy with a single parameter gets the image, whatever the parameter's name.
    """

    input_args: tuple[str, ...] | None = None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return an attribute set by `_init`."""

    def _init(self, params: dict[str, Any] | None = None) -> None:
        """Store a constructor's `locals()` as attributes."""
        for name, value in (params or {}).items():
            # `locals()` of a constructor also has `self` and `__class__`.
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def get_transform(self, *args: Any) -> Transform:
        """Return the transform for these inputs.

        By convention `image` is an (H, W) or (H, W, C) array, uint8 in [0, 255] or floating point,
        `boxes` are (N, 4) float32, XYXY in pixels, and `sem_seg` is (H, W) of integer labels.
        """
        raise NotImplementedError

    def __call__(self, aug_input: Any) -> Transform:
        """Transform `aug_input` in place and return the transform that was applied."""
        transform = self.get_transform(*_get_aug_input_args(self, aug_input))
        _check_transform(transform, self)
        aug_input.transform(transform)
        return transform

    def _rand_range(
        self, low: float = 1.0, high: float | None = None, size: Any = None
    ) -> np.ndarray:
        """Draw uniformly from [low, high), or from [0, low) if only `low` is given."""
        if high is None:
            low, high = 0, low
        return np.random.uniform(low, high, [] if size is None else size)

    def __repr__(self) -> str:
        try:
            return f"{type(self).__name__}({', '.join(_changed_arguments(self))})"
        except AttributeError:  # the constructor does not store its arguments
            return super().__repr__()

    __str__ = __repr__


def _changed_arguments(augmentation: Augmentation) -> list[str]:
    """Format the constructor's non-default arguments as "name=value"."""
    shown = []
    for name, parameter in inspect.signature(type(augmentation).__init__).parameters.items():
        if name == "self":
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise AttributeError(name)
        value = getattr(augmentation, name)
        if value is parameter.default:
            continue
        text = pprint.pformat(value)
        shown.append(f"{name}={'...' if chr(10) in text else text}")
    return shown


def _input_names(augmentation: Augmentation) -> tuple[str, ...]:
    parameters = list(inspect.signature(augmentation.get_transform).parameters.values())
    if len(parameters) == 1:
        return ("image",)
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        raise TypeError(
            f"{type(augmentation).__name__}.get_transform has *args or **kwargs: name each input, "
            "or list the names in `input_args`."
        )
    return tuple(p.name for p in parameters)


def _get_aug_input_args(augmentation: Augmentation, aug_input: Any) -> list[Any]:
    if augmentation.input_args is None:
        # Cached, because inspecting a signature per image is slow.
        augmentation.input_args = _input_names(augmentation)
    missing = [name for name in augmentation.input_args if not hasattr(aug_input, name)]
    if missing:
        raise AttributeError(
            f"{type(augmentation).__name__}.get_transform needs {', '.join(missing)}, "
            f"which {type(aug_input).__name__} does not have."
        )
    return [getattr(aug_input, name) for name in augmentation.input_args]


def _check_transform(transform: Any, augmentation: Augmentation) -> None:
    if not isinstance(transform, Transform):
        raise TypeError(
            f"{type(augmentation).__name__}.get_transform must return a Transform, "
            f"got {type(transform).__name__}."
        )


class _TransformToAug(Augmentation):
    """An augmentation that always returns the same transform."""

    def __init__(self, tfm: Transform) -> None:
        self.tfm = tfm

    def get_transform(self, *args: Any) -> Transform:
        return self.tfm

    def __repr__(self) -> str:
        return repr(self.tfm)

    __str__ = __repr__


def _transform_to_aug(item: Transform | Augmentation) -> Augmentation:
    """Wrap a transform as an augmentation; return an augmentation as it is."""
    if not isinstance(item, (Transform, Augmentation)):
        raise AssertionError(f"Not an Augmentation or a Transform: {item!r}")
    return _TransformToAug(item) if isinstance(item, Transform) else item


class AugmentationList(Augmentation):
    """A sequence of augmentations, each applied to the result of those before."""

    def __init__(self, augs: Sequence[Augmentation | Transform]) -> None:
        self.augs = [_transform_to_aug(item) for item in augs]

    def __call__(self, aug_input: Any) -> TransformList:
        return TransformList([augmentation(aug_input) for augmentation in self.augs])

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(str(augmentation) for augmentation in self.augs)}]"

    __str__ = __repr__


class AugInput:
    """The standard inputs of augmentations: one image with boxes and semantic labels.

    Args:
        image: (H, W) or (H, W, C), uint8 in [0, 255] or floating point.
        boxes: (N, 4) float32, XYXY in pixels, or None.
        sem_seg: (H, W) uint8 labels, or None.
    """

    def __init__(
        self,
        image: np.ndarray,
        *,
        boxes: np.ndarray | None = None,
        sem_seg: np.ndarray | None = None,
    ) -> None:
        _check_img_dtype(image)
        self.image = image
        self.boxes = boxes
        self.sem_seg = sem_seg

    def transform(self, tfm: Transform) -> None:
        """Replace every attribute by its transformed value."""
        self.image = tfm.apply_image(self.image)
        self.boxes = None if self.boxes is None else tfm.apply_box(self.boxes)
        self.sem_seg = None if self.sem_seg is None else tfm.apply_segmentation(self.sem_seg)

    def apply_augmentations(
        self, augmentations: Sequence[Augmentation | Transform]
    ) -> TransformList:
        """Apply augmentations in place; same as `AugmentationList(augmentations)(self)`."""
        return AugmentationList(augmentations)(self)


def _check_img_dtype(image: Any) -> None:
    if not isinstance(image, np.ndarray):
        raise AssertionError(f"An image must be a numpy array, got {type(image).__name__}.")
    if image.ndim not in (2, 3):
        raise AssertionError(f"An image must be (H, W) or (H, W, C), got {image.shape}.")


def apply_augmentations(
    augmentations: Sequence[Augmentation | Transform], inputs: Any
) -> tuple[Any, TransformList]:
    """Apply to an image array, or to an `AugInput` in place; return it and the transforms."""
    data = AugInput(inputs) if isinstance(inputs, np.ndarray) else inputs
    transforms = data.apply_augmentations(augmentations)
    return (data.image if isinstance(inputs, np.ndarray) else data), transforms


apply_transform_gens = apply_augmentations
TransformGen = Augmentation
StandardAugInput = AugInput
