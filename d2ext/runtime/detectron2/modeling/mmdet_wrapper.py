"""Wrappers of MMDetection 2's backbones and detectors, which is imported only to build them.

API: https://detectron2.readthedocs.io/en/latest/modules/modeling.html#detectron2.modeling.MMDetDetector
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from detectron2.layers import ShapeSpec
from detectron2.structures import BitMasks, Boxes, ImageList, Instances, PolygonMasks
from detectron2.utils.events import get_event_storage

from .backbone import Backbone

__all__ = ["MMDetBackbone", "MMDetDetector"]

Config = Mapping[str, Any] | DictConfig


class MMDetBackbone(Backbone):
    """An MMDetection backbone, and optionally a neck, whose list of outputs is named.

    Args:
        backbone: a module, or a config of MMDetection that builds one.
        neck: the same; takes the list of the backbone's outputs.
        output_shapes: channels and stride per output.
        output_names: names of the outputs; by default "out0", "out1", ...
    """

    def __init__(
        self,
        backbone: nn.Module | Config,
        neck: nn.Module | Config | None = None,
        *,
        output_shapes: list[ShapeSpec],
        output_names: list[str] | None = None,
    ) -> None:
        super().__init__()
        names = output_names or [f"out{index}" for index in range(len(output_shapes))]
        if len(names) != len(output_shapes):
            raise ValueError(f"{len(names)} output_names for {len(output_shapes)} output_shapes")
        self.backbone = _built(backbone, "build_backbone")
        self.neck = None if neck is None else _built(neck, "build_neck")
        self._output_names, self._output_shapes = names, output_shapes

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) -> a map per output name."""
        outputs = self.backbone(x)
        if self.neck is not None:
            outputs = self.neck(outputs)
        if not isinstance(outputs, list | tuple) or len(outputs) != len(self._output_names):
            raise ValueError(f"the backbone has to give a list of {len(self._output_names)} maps")
        return dict(zip(self._output_names, outputs, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(zip(self._output_names, self._output_shapes, strict=True))


class MMDetDetector(nn.Module):
    """An MMDetection detector of boxes and masks with Detectron2's inputs and outputs.

    Args:
        detector: a module, or a config of MMDetection that builds one.
        size_divisibility: images are padded to a multiple of this.
        pixel_mean, pixel_std: mean and standard deviation per image channel.
    """

    def __init__(
        self,
        detector: nn.Module | Config,
        *,
        size_divisibility: int = 32,
        pixel_mean: tuple[float, float, float],
        pixel_std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.detector: Any = _built(detector, "build_detector")
        self.size_divisibility = size_divisibility
        for name, values in {"pixel_mean": pixel_mean, "pixel_std": pixel_std}.items():
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.pixel_mean: Tensor
        self.pixel_std: Tensor

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Return losses in training, otherwise {"instances": Instances} per image."""
        images = [x["image"].to(self.device) for x in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        batch = ImageList.from_tensors(images, self.size_divisibility).tensor
        pairs = zip(images, batched_inputs, strict=True)
        metas = [_image_meta(image, x, batch) for image, x in pairs]
        if self.training:
            truth = [x["instances"].to(self.device) for x in batched_inputs]
            return _losses(self.detector.forward_train(batch, metas, **_targets(truth, batch)))
        results = self.detector.simple_test(batch, metas, rescale=True)
        pairs = zip(results, metas, strict=True)
        return [{"instances": _instances(result, meta)} for result, meta in pairs]


def _built(module: nn.Module | Config, builder: str) -> nn.Module:
    """Build a module by MMDetection unless it is one, and let it initialise its weights."""
    if isinstance(module, nn.Module):
        built: Any = module
    else:
        from mmcv import ConfigDict
        from mmdet.models import builder as builders

        plain = OmegaConf.to_container(module) if isinstance(module, DictConfig) else module
        built = getattr(builders, builder)(ConfigDict(plain))
    if hasattr(built, "init_weights"):
        built.init_weights()
    return built


def _image_meta(image: Tensor, item: Mapping[str, Any], batch: Tensor) -> dict[str, Any]:
    """Return what MMDetection wants to know about an image; sizes are (H, W, channels)."""
    channels, *size = image.shape
    wanted = (item.get("height", size[0]), item.get("width", size[1]))
    scale = [size[1] / wanted[1], size[0] / wanted[0]]
    return {
        "ori_shape": (*wanted, channels),
        "img_shape": (*size, channels),
        "pad_shape": (*batch.shape[-2:], channels),
        "scale_factor": np.array(scale * 2, np.float32),
        "flip": False,
        "filename": item.get("file_name", ""),
    }


def _targets(truth: list[Instances], batch: Tensor) -> dict[str, Any]:
    targets: dict[str, Any] = {
        "gt_bboxes": [each.gt_boxes.tensor for each in truth],
        "gt_labels": [each.gt_classes for each in truth],
    }
    if truth[0].has("gt_masks"):
        targets["gt_masks"] = [_masks(each.gt_masks, batch) for each in truth]
    return targets


def _masks(masks: BitMasks | PolygonMasks, batch: Tensor) -> Any:
    """Convert masks to MMDetection's, of the padded size."""
    from mmdet.core import BitmapMasks
    from mmdet.core import PolygonMasks as MMDetPolygons

    height, width = batch.shape[-2:]
    if isinstance(masks, PolygonMasks):
        return MMDetPolygons(masks.polygons, height, width)
    padded = batch.new_zeros((len(masks), height, width), dtype=torch.uint8)
    padded[:, : masks.tensor.shape[1], : masks.tensor.shape[2]] = masks.tensor
    return BitmapMasks(padded.cpu().numpy(), height, width)


def _instances(result: Any, meta: Mapping[str, Any]) -> Instances:
    """Convert the result of an image: boxes with scores per class, and masks if there are any."""
    size = meta["ori_shape"][:2]
    boxes, masks = result if isinstance(result, tuple) else (result, None)
    numbers = torch.as_tensor(np.concatenate(boxes), dtype=torch.float32)  # (N, 5)
    found = Instances((size[0], size[1]))
    found.pred_boxes = Boxes(numbers[:, :4])
    found.scores = numbers[:, 4]
    counts = torch.tensor([len(of_class) for of_class in boxes])
    found.pred_classes = torch.arange(len(boxes)).repeat_interleave(counts)
    if masks is not None:
        flat = [mask for of_class in masks for mask in of_class]
        stacked = np.stack(flat) if flat else np.zeros((0, *size))
        found.pred_masks = torch.as_tensor(stacked.astype(bool))
    return found


def _losses(outputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the losses, those of several levels summed; write other outputs to the log."""
    losses = {}
    for name, value in outputs.items():
        parts = value if isinstance(value, list) else [value]
        total = torch.stack([part.mean() for part in parts]).sum()
        if "loss" in name:
            losses[name] = total
        else:
            get_event_storage().put_scalar(name, total.item())
    return losses
