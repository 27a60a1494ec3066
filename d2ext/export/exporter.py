"""What the export command has to know of a kind of model, and the registry of these kinds."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

from d2ext.errors import ConfigError
from d2ext.modeling.dense_heads import LevelPredictions, PostProcess
from detectron2.structures import Instances

_EXPORTERS: dict[type[nn.Module], type["Exporter"]] = {}
_Class = TypeVar("_Class", bound=type["Exporter"])


class Exporter(ABC, nn.Module):
    """A detector as functions of tensors.

    Args:
        model: a detector in evaluation mode, on the CPU.
    """

    clip: bool = True  # end boxes at the border of the image
    postprocess: PostProcess

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    @property
    def stride(self) -> int:
        """Height and width of the input are multiples of this, in pixels."""
        return max(1, self.model.backbone.size_divisibility)

    @property
    def smallest(self) -> int:
        """Least height and width of the input if they are free, in pixels."""
        strides = [shape.stride or 1 for shape in self.model.backbone.output_shape().values()]
        return 2 * max(self.stride, *strides)  # two cells: one is a special case of many operators

    def normalize(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) pixels in 0..255 -> what the backbone takes."""
        return (images - self.model.pixel_mean) / self.model.pixel_std

    def detect(self, images: Tensor) -> list[Instances]:
        """What the model itself finds in (B, 3, H, W) pixels: the truth for what is exported."""
        height, width = images.shape[-2:]
        batch = [{"image": image, "height": height, "width": width} for image in images]
        return [found["instances"] for found in self.model(batch)]

    @abstractmethod
    def head(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Normalised images -> raw outputs by name, each level by level."""

    @abstractmethod
    def decode(self, raw: dict[str, list[Tensor]]) -> LevelPredictions:
        """What `head` gives -> boxes and scores."""


def register_exporter(model_class: type[nn.Module]) -> Callable[[_Class], _Class]:
    """Export models of `model_class`, and of subclasses without an own one, by the class below."""

    def register(exporter: _Class) -> _Class:
        _EXPORTERS[model_class] = exporter
        return exporter

    return register


def exporter_for(model: nn.Module) -> Exporter:
    """The exporter of a model.

    Raises:
        ConfigError: none is registered for its class.
    """
    for kind in type(model).__mro__:
        if kind in _EXPORTERS:
            return _EXPORTERS[kind](model)
    known = ", ".join(sorted(kind.__name__ for kind in _EXPORTERS))
    raise ConfigError(
        f"MODEL.META_ARCHITECTURE: {type(model).__name__} cannot be exported; those that can: "
        f"{known}. `d2ext.export.register_exporter` adds one."
    )
