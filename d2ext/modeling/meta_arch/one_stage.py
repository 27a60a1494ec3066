"""Detectors of one stage: a backbone with a feature pyramid, and a dense head on it."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from d2ext.modeling.dense_heads import build_dense_head
from detectron2.config import CfgNode, configurable
from detectron2.modeling import Backbone, build_backbone
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import ImageList, Instances


class OneStageDetector(nn.Module):
    """Images in, losses (training) or boxes (evaluation) out; a subclass names its head.

    Args:
        backbone: gives the feature pyramid.
        head: predicts at its cells; see `DENSE_HEAD_REGISTRY`.
        pixel_mean: of each channel, in the order of `input_format`.
        pixel_std: likewise.
        input_format: order of the channels that images are read in, "RGB" or "BGR".
    """

    head_name: ClassVar[str]  # of `DENSE_HEAD_REGISTRY`
    pad_value: ClassVar[float] = 0.0  # beside and below smaller images of a batch, normalised
    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: Any,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.input_format = backbone, head, input_format
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "head": build_dense_head(cls.head_name, cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batch: list[dict]) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """Detectron2's input and output format.

        Args:
            batch: dicts with "image" (3, H, W) in 0..255; in training "instances" with `gt_boxes`
                and `gt_classes`; in evaluation "height" and "width" of the output, in pixels.
        """
        images = self.preprocess(batch)
        predictions = self.head(self.backbone(images.tensor))
        if self.training:
            return self.head.losses(predictions, [i["instances"].to(self.device) for i in batch])
        found = self.head.decode(predictions, images.image_sizes)
        return [
            {"instances": self.postprocess(instances, *_output_size(image))}
            for instances, image in zip(found, batch, strict=True)
        ]

    def preprocess(self, batch: list[dict]) -> ImageList:
        """Normalise the images and pad them on the right and bottom to one size."""
        images = [i["image"].to(self.device) for i in batch]
        return ImageList.from_tensors(
            [(image - self.pixel_mean) / self.pixel_std for image in images],
            self.backbone.size_divisibility,
            self.pad_value,
            padding_constraints=self.backbone.padding_constraints,
        )

    def postprocess(self, found: Instances, height: int, width: int) -> Instances:
        """Detections in an image of another size, in pixels, clipped to it."""
        return detector_postprocess(found, height, width)


def _output_size(image: dict) -> tuple[int, int]:
    height, width = image["image"].shape[-2:]
    return image.get("height", height), image.get("width", width)
