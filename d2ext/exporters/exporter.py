"""What the export command has to know of a kind of model, and the registry of these kinds."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2ext.errors import ConfigError
from d2ext.exporters.selection import Selected, clipped, nms_detections
from d2ext.modeling.dense_heads import LevelPredictions, PostProcess
from d2ext.registry import ExtensionRegistry
from detectron2.modeling import META_ARCH_REGISTRY, PanopticFPN
from detectron2.structures import Instances

_EXPORTERS: ExtensionRegistry[type[nn.Module], type["Exporter"]] = ExtensionRegistry("exporter")

# Candidates per level where the model has no limit: the shapes of an exported module are fixed,
# and hardly ever do more than these pass the threshold.
MOST_CANDIDATES = 1000


class Exporter(ABC, nn.Module):
    """A detector as functions of tensors, from pixels to raw outputs, candidates and detections.

    A subclass implements `head`, `decode` and `select`. NMS is one way to select (`NMSExporter`);
    a set predictor, whose queries need none, takes the best candidates.

    Args:
        model: a detector in evaluation mode, on the CPU.
    """

    clip: bool = True  # end boxes at the border of the image
    pads: bool = False  # `head` calls `pad`, so that the file takes images of any size
    for_onnx: bool = False  # use operators that `d2ext.exporters.onnx_file` translates
    paste: bool = False  # masks cover the image, not their boxes

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def check_outputs(self) -> None:
        """Raise a ConfigError if the model cannot give what `paste` asks for."""
        if self.paste:
            raise ConfigError(f"--paste inside: {type(self.model).__name__} predicts no masks.")

    @property
    def stride(self) -> int:
        """The model pads heights and widths to multiples of this, in pixels."""
        return max(1, self.model.backbone.size_divisibility)

    @property
    def multiple(self) -> int:
        """Height and width of the file's input are multiples of this, in pixels."""
        return 1 if self.pads else self.stride

    def normalize(self, images: Tensor) -> Tensor:
        """Normalise (B, 3, H, W) pixels in 0..255 as the backbone takes them."""
        return (images - self.model.pixel_mean) / self.model.pixel_std

    def pad(self, images: Tensor) -> Tensor:
        """Pad normalised images (B, 3, H, W) on the right and bottom as the model does.

        Inside the file: R-CNNs clip proposals at the border of the image, not of the padding.
        """
        height, width = images.shape[-2:]
        right, bottom = (self._padded(side) - side for side in (width, height))
        return F.pad(images, (0, right, 0, bottom), value=self.pad_value)

    @property
    def pad_value(self) -> float:
        """Value of the padding, in what `normalize` returns."""
        return getattr(self.model, "pad_value", 0.0)

    def _padded(self, side: int) -> int:
        square = self.model.backbone.padding_constraints.get("square_size", 0)
        # Of positive numbers: exported integer divisions of negative ones round towards 0.
        return square or (side + self.stride - 1) // self.stride * self.stride

    def detect(self, images: Tensor) -> list[Instances]:
        """Run the model itself on (B, 3, H, W) pixels, to check the exported file against it."""
        height, width = images.shape[-2:]
        batch = [{"image": image, "height": height, "width": width} for image in images]
        return [found["instances"] for found in self.model(batch)]

    def detections(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the detections of (B, 3, H, W) pixels.

        Returns:
            "boxes" (B, N, 4) XYXY in pixels, "scores" (B, N) and "classes" (B, N) int64, best
            first; where there are fewer than N, score 0 and class -1. A subclass may add more.
        """
        levels = self.decode(self.head(self.normalize(images)))
        return self.finish(levels, images.shape[-2], images.shape[-1])

    def finish(self, levels: LevelPredictions, height: int, width: int) -> dict[str, Tensor]:
        """Select the detections among the candidates, and clip them to the image."""
        boxes, scores, classes = self.select(levels)
        # A fixed number of outputs is filled up with score 0, which no detection has.
        found = scores > 0
        if self.clip:
            boxes = clipped(boxes, height, width)
            found = found & (boxes[..., 2:] > boxes[..., :2]).all(-1)
        return {
            "boxes": boxes * found.unsqueeze(-1),
            "scores": scores * found,
            "classes": torch.where(found, classes, -1),
        }

    @abstractmethod
    def head(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Compute the raw outputs of normalised images, by name, as one tensor per level."""

    @abstractmethod
    def decode(self, raw: dict[str, list[Tensor]]) -> LevelPredictions:
        """Decode what `head` returns to boxes and scores: the candidates."""

    @abstractmethod
    def select(self, levels: LevelPredictions) -> Selected:
        """Select the detections among the candidates.

        Returns:
            Boxes (B, N, 4), scores (B, N) and classes (B, N) int64, with a fixed N; where there
            are fewer than N detections, their scores are 0.
        """


class NMSExporter(Exporter):
    """An exporter of a detector that selects its detections by NMS within each class.

    `head` calls `pad` before the backbone.

    Attributes:
        postprocess: the thresholds of the model.
    """

    pads = True
    postprocess: PostProcess

    def set_score_threshold(self, value: float) -> None:
        """Set the score threshold of the model and of what is exported.

        A subclass whose `postprocess` is not the model's own sets the model's, too.
        """
        self.postprocess.score_thresh = value

    @contextmanager
    def score_threshold(self, value: float) -> Iterator[None]:
        """Set the score threshold for the duration of a with statement."""
        before = self.postprocess.score_thresh
        self.set_score_threshold(value)
        try:
            yield
        finally:
            self.set_score_threshold(before)

    def select(self, levels: LevelPredictions) -> Selected:
        return nms_detections(
            levels,
            topk=self.postprocess.topk_candidates or MOST_CANDIDATES,
            nms_thresh=self.postprocess.nms_thresh,
            max_detections=self.postprocess.max_detections,
            for_onnx=self.for_onnx,
        )


class MaskExporter(Exporter):
    """An exporter of a model of masks or pixels, whose outputs are written as they are.

    The file ends with these outputs: boxes are neither decoded nor selected in it.
    """

    @property
    def stride(self) -> int:
        # Every feature map then has a whole number of pixels, whatever training pads to.
        return max(shape.stride or 1 for shape in self.model.backbone.output_shape().values())

    def check_outputs(self) -> None:
        if self.paste:
            raise ConfigError("--paste inside: these masks cover the image already.")

    @abstractmethod
    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the outputs of normalised images by name, with images as the first dimension."""

    def head(self, images: Tensor) -> dict[str, list[Tensor]]:
        return {name: [output] for name, output in self.outputs(images).items()}

    def decode(self, raw: dict[str, list[Tensor]]) -> LevelPredictions:
        raise ConfigError(f"{type(self.model).__name__} has no boxes to decode.")

    def select(self, levels: LevelPredictions) -> Selected:
        raise ConfigError(f"{type(self.model).__name__} has no boxes to select.")


def register_exporter(model_class: type[nn.Module], exporter: type["Exporter"]) -> None:
    """Register a subclass of `Exporter` for models of `model_class` and its subclasses.

    An exporter of a subclass wins over that of its parent. A head of a `DenseDetector` needs none:
    `DenseHead.decode_dense` is enough.

    Raises:
        ValueError: `model_class` has an exporter of its own already.
    """
    _EXPORTERS.register(model_class, exporter)


def exporter_for(model: nn.Module) -> Exporter:
    """Build the exporter of a model.

    Raises:
        ConfigError: none is registered for its class.
    """
    for kind in type(model).__mro__:
        if kind in _EXPORTERS:
            return _EXPORTERS.get(kind, "MODEL.META_ARCHITECTURE")(model)
    raise ConfigError(
        f"MODEL.META_ARCHITECTURE: {type(model).__name__} cannot be exported; those that can: "
        f"{', '.join(_exportable())}. `d2ext.exporters.register_exporter` adds one."
    )


def _exportable() -> list[str]:
    """Return the names that MODEL.META_ARCHITECTURE takes of models with an exporter."""
    classes = tuple(_EXPORTERS)
    kinds = ((name, kind) for name, kind in META_ARCH_REGISTRY if isinstance(kind, type))
    # Panoptic FPN is an R-CNN, but more than the exporter of R-CNNs gives.
    return sorted(
        name
        for name, kind in kinds
        if issubclass(kind, classes) and not issubclass(kind, PanopticFPN)
    )
