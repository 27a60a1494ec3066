"""The YOLO-FastestV2 detector.

Source: https://github.com/dog-qiuqiu/Yolo-FastestV2; there is no paper.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.modeling.meta_arch import DenseDetector
from d2ext.projects.yolo_fastest.modeling.decoding import RawLevel
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList, Instances

GREY = 114 / 255  # the published padding, of normalised images


@META_ARCH_REGISTRY.register()
class YoloFastest(DenseDetector):
    """A backbone with a `LightNeck` and a `YoloFastestHead`.

    Args:
        train_scales: multi-scale training: factors of the image size, one is drawn per batch.
        clip_boxes: clip detections to the image; the published ones go beyond its border.
        options: those of `DenseDetector`.
    """

    head_name = "YoloFastestHead"
    pad_value = GREY

    @configurable
    def __init__(self, *, train_scales: Sequence[float], clip_boxes: bool, **options: Any) -> None:
        super().__init__(**options)
        self.train_scales, self.clip_boxes = tuple(train_scales), clip_boxes
        self.to(memory_format=torch.channels_last)  # depthwise kernels of CPUs like it best

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        yolo = cfg.MODEL.YOLO_FASTEST
        own = {"train_scales": yolo.TRAIN_SCALES, "clip_boxes": yolo.CLIP_BOXES}
        return {**super().from_config(cfg), **own}

    def forward(self, batch: list[dict]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Run as `DenseDetector`; in training at a scale drawn for the batch."""
        if self.training and self.train_scales != (1.0,):
            drawn = int(torch.randint(len(self.train_scales), ()))
            batch = [_rescaled(item, self.train_scales[drawn]) for item in batch]
        return super().forward(batch)

    def raw(self, images: Tensor) -> list[RawLevel]:
        """Compute the raw outputs per level; `decoding.decode` and `suppress` complete the network.

        Args:
            images: (B, 3, H, W) in 0..255, sides multiples of the coarsest stride.
        """
        return self.head(self.backbone((images - self.pixel_mean) / self.pixel_std))

    def preprocess(self, batch: list[dict]) -> ImageList:
        sizes = [tuple(item["image"].shape[-2:]) for item in batch]
        if len(set(sizes)) > 1 or any(s % self.backbone.size_divisibility for s in sizes[0]):
            images = super().preprocess(batch)
            images.tensor = images.tensor.contiguous(memory_format=torch.channels_last)
            return images
        # The usual case, without copies of floats: they cost more than the first convolution.
        images = [item["image"].to(self.device) for item in batch]
        pixels = images[0][None] if len(images) == 1 else torch.stack(images)
        return ImageList(self._normalized(pixels), sizes)

    def _normalized(self, pixels: Tensor) -> Tensor:
        """Return a normalised copy of (B, 3, H, W) pixels in 0..255, channels-last."""
        # In place and by whole rows: three channels at a time are too few for vector instructions.
        pixels = pixels.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        width = pixels.shape[2]
        mean, std = (v.flatten().repeat(width) for v in (self.pixel_mean, self.pixel_std))
        rows = pixels.flatten(2).to(mean.dtype, copy=True).sub_(mean).div_(std)
        return rows.unflatten(2, (width, 3)).permute(0, 3, 1, 2)

    def postprocess(self, found: Instances, height: int, width: int) -> dict[str, Instances]:
        if self.clip_boxes:
            return super().postprocess(found, height, width)
        own_height, own_width = found.image_size
        result = Instances((height, width), **found.get_fields())
        result.pred_boxes.scale(width / own_width, height / own_height)
        return {"instances": result}


def _rescaled(item: dict, scale: float) -> dict:
    """Return the item with its image and boxes resized."""
    image = F.interpolate(item["image"][None].float(), scale_factor=scale, mode="bilinear")[0]
    before, after = item["image"].shape[-2:], image.shape[-2:]
    truth = Instances(after, **item["instances"].get_fields())
    truth.gt_boxes = item["instances"].gt_boxes.clone()
    truth.gt_boxes.scale(after[1] / before[1], after[0] / before[0])
    return {**item, "image": image, "instances": truth}
