"""Kinds of prediction: how each entry of a model's output is selected, drawn and written."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from d2ext.errors import ConfigError
from d2ext.inference.prediction_files import detections_of
from d2ext.inference.semantic_regions import regions_of
from d2ext.registry import ExtensionRegistry
from detectron2.structures import BitMasks, Instances

_READABLE = 640  # pixels: smaller images are enlarged towards this side, so that labels fit


class PredictionKind(ABC):
    """The handling of one entry of a model's output, such as "instances", in `tools/demo.py`.

    Attributes:
        labels_pixels: classes are those of pixels, `stuff_classes`, where data have both.
    """

    labels_pixels: ClassVar[bool] = False

    @abstractmethod
    def select(self, output: Any, confidence: float) -> Any:
        """Convert the entry for one image to what is drawn and written, on the CPU.

        Args:
            output: the entry as the model returns it, in pixels of the original image.
            confidence: minimum score, 0 to 1; predictions below it are dropped.
        """

    @abstractmethod
    def draw(self, image: np.ndarray, found: Any, names: Sequence[str]) -> np.ndarray:
        """Draw predictions on a copy of an (H, W, 3) RGB uint8 image.

        Args:
            names: of the classes, in the order of their indices; empty where they are unknown.
        Returns:
            (s * H, s * W, 3) RGB uint8 with a scale s that is the same for every image of the size.
        """

    @abstractmethod
    def as_json(self, found: Any, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return one JSON object per prediction for the "detections" of predictions.json."""


_KINDS: ExtensionRegistry[str, PredictionKind] = ExtensionRegistry("kind of prediction")


def register_prediction_kind(key: str, kind: PredictionKind) -> None:
    """Register how `tools/demo.py` draws and writes an entry of a model's output.

    A project calls it when it is imported. Of several entries that a model returns, the one whose
    kind was registered last is used, so a project's own come before d2ext's.

    Args:
        key: of the dictionary that the model returns per image, e.g. "panoptic_seg".
        kind: has no state of its own; it serves all images.
    Raises:
        ValueError: the key is taken.
    """
    _KINDS.register(key, kind)


def prediction_kind(output: Mapping[str, Any]) -> tuple[str, PredictionKind]:
    """Return the key of a model's output that is shown, and its kind.

    Raises:
        ConfigError: no kind is registered for any of its keys.
    """
    for key in reversed(list(_KINDS)):
        if key in output:
            return key, _KINDS.get(key, "the model's output")
    raise ConfigError(
        f"The model returns {', '.join(output) or 'nothing'}, which cannot be drawn; known are "
        f"{', '.join(_KINDS)}. Register others with d2ext.inference.register_prediction_kind."
    )


class InstanceKind(PredictionKind):
    """`Instances` with boxes and, where there are some, masks and keypoints."""

    def select(self, output: Any, confidence: float) -> Instances:
        found = output.to("cpu")
        return found[found.scores >= confidence]

    def draw(self, image: np.ndarray, found: Instances, names: Sequence[str]) -> np.ndarray:
        from d2ext.visualization import annotate  # matplotlib takes a second

        scale = max(1, _READABLE // max(image.shape[:2]))
        return annotate(image, found, {"thing_classes": names}, scale)

    def as_json(self, found: Instances, names: Sequence[str]) -> list[dict[str, Any]]:
        return detections_of(found, names)


class SemanticKind(InstanceKind):
    """(classes, H, W) logits of pixels, shown as one region per class."""

    labels_pixels = True

    def select(self, output: Any, confidence: float) -> Instances:
        return super().select(regions_of(output), confidence)


class PanopticKind(InstanceKind):
    """(H, W) ids of segments with a list of them; whatever the model keeps has the score 1."""

    labels_pixels = True

    def select(self, output: Any, confidence: float) -> Instances:
        ids, segments = output[0].cpu(), output[1]
        masks = [ids == segment["id"] for segment in segments]
        found = Instances(tuple(ids.shape))
        found.pred_masks = torch.stack(masks) if masks else ids.new_zeros((0, *ids.shape)).bool()
        found.pred_boxes = BitMasks(found.pred_masks).get_bounding_boxes()
        found.pred_classes = torch.tensor([s["category_id"] for s in segments], dtype=torch.int64)
        found.scores = torch.ones(len(segments))
        return found


# A model of both, such as PanopticFPN, is shown by its instances: see `register_prediction_kind`.
register_prediction_kind("panoptic_seg", PanopticKind())
register_prediction_kind("sem_seg", SemanticKind())
register_prediction_kind("instances", InstanceKind())
