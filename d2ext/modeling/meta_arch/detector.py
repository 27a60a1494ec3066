"""The base class of d2ext's meta-architectures: batching, normalisation, output in pixels."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from d2ext.data import DatasetStats
from d2ext.modeling.required_annotations import instance_annotations
from detectron2.config import CfgNode, configurable
from detectron2.modeling import Backbone, build_backbone
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import ImageList


class Detector(ABC, nn.Module):
    """Base of every meta-architecture of d2ext, from dense detectors to query-based predictors.

    A subclass implements `losses` and `detect`; one that predicts anything but instances also
    overrides `targets`, `postprocess` and `required_annotations`.

    Args:
        backbone: maps a normalised batch to feature maps by name.
        pixel_mean: subtracted from each channel, in the order of `input_format`.
        pixel_std: divides each channel after that.
        input_format: channel order of the images, "RGB" or "BGR".
    """

    # Dataset mapper that `DATALOADER.MAPPER: auto` selects, by its registered name.
    dataset_mapper: ClassVar[str] = "default"
    pad_value: ClassVar[float] = 0.0  # of the padding, after normalisation
    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str,
    ) -> None:
        super().__init__()
        self.backbone, self.input_format = backbone, input_format
        # Not persistent: they belong to the config, not to the weights.
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            "backbone": build_backbone(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
        }

    @classmethod
    def required_annotations(cls, cfg: CfgNode) -> dict[str, str]:
        """Return the kinds of annotation that training needs, each with the setting that asks.

        The settings appear in messages: {"boxes": "MODEL.META_ARCHITECTURE ATSS"}. Kinds are the
        words that data sets report: "boxes", "masks", "keypoints", "semantic masks", ...
        """
        return instance_annotations(cfg)

    @classmethod
    def check_data(cls, cfg: CfgNode, stats: DatasetStats) -> list[str]:
        """Check the training data against the config before training starts.

        Args:
            cfg: plain values only.
            stats: statistics of the training data.
        Returns:
            Lines for the log.
        Raises:
            ConfigError: such a model cannot learn these data.
        """
        return []

    @property
    def size_divisibility(self) -> int:
        """Batches are padded to multiples of it, in pixels; 0: to the largest image."""
        return self.backbone.size_divisibility

    @property
    def device(self) -> torch.device:
        """Device of the parameters, where images and targets are copied to."""
        return self.pixel_mean.device

    def forward(self, batch: list[dict]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Compute losses (training) or predictions (evaluation) of a batch.

        Args:
            batch: Detectron2's dicts, with "image" (3, H, W) in 0..255, what `targets` reads in
                training, and optionally "height" and "width" of the output, in pixels.
        Returns:
            Losses by name, or per image what `postprocess` returns.
        """
        images = self.preprocess(batch)
        if self.training:
            return self.losses(images, self.targets(batch))
        return [
            self.postprocess(found, *_output_size(item))
            for found, item in zip(self.detect(images), batch, strict=True)
        ]

    @abstractmethod
    def losses(self, images: ImageList, targets: list[Any]) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            images: a normalised and padded batch, as `preprocess` returns it.
            targets: per image, as `targets` returns them.
        Returns:
            Scalars by name; training minimises their sum.
        """

    @abstractmethod
    def detect(self, images: ImageList) -> list[Any]:
        """Predict in pixels of the network's input, padding excluded.

        Returns:
            Per image what `postprocess` takes: `Instances` unless the subclass overrides it.
        """

    def preprocess(self, batch: list[dict]) -> ImageList:
        """Normalise the images and pad them on the right and bottom to one size."""
        images = [item["image"].to(self.device) for item in batch]
        # Normalised before the padding, so that `pad_value` is what the network sees.
        return ImageList.from_tensors(
            [(image - self.pixel_mean) / self.pixel_std for image in images],
            self.size_divisibility,
            self.pad_value,
            padding_constraints=self.backbone.padding_constraints,
        )

    def targets(self, batch: list[dict]) -> list[Any]:
        """Return the ground truth per image, on the model's device."""
        return [item["instances"].to(self.device) for item in batch]

    def postprocess(self, found: Any, height: int, width: int) -> dict[str, Any]:
        """Rescale the predictions of an image to an output of `height` x `width` pixels."""
        return {"instances": detector_postprocess(found, height, width)}


def padding_mask(images: ImageList) -> Tensor:
    """Return a (B, H, W) bool mask of a batch that is True at padding, as attention takes it.

    A batch without `image_sizes`, whose number of images an export leaves open, is not padded.
    """
    if not images.image_sizes:
        return images.tensor.new_zeros(images.tensor[:, 0].shape, dtype=torch.bool)
    mask = images.tensor.new_ones(images.tensor[:, 0].shape, dtype=torch.bool)
    for index, (height, width) in enumerate(images.image_sizes):
        mask[index, :height, :width] = False
    return mask


def _output_size(item: dict) -> tuple[int, int]:
    height, width = item["image"].shape[-2:]
    return item.get("height", height), item.get("width", width)
