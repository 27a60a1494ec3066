"""Weights that torchvision publishes, as its own registry describes them."""

import re
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import torchvision
from torchvision.models import get_model_weights, list_models

from d2ext.model_zoo.entry import ModelEntry, PixelFormat

_PIXELS = PixelFormat("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))

_RECIPES = "configs/rcnn/torchvision"
_CONFIGS = {
    "fasterrcnn_resnet50_fpn": f"{_RECIPES}/faster_rcnn_r50_fpn.yaml",
    "fasterrcnn_resnet50_fpn_v2": f"{_RECIPES}/faster_rcnn_r50_fpn_v2.yaml",
    "maskrcnn_resnet50_fpn": f"{_RECIPES}/mask_rcnn_r50_fpn.yaml",
    "maskrcnn_resnet50_fpn_v2": f"{_RECIPES}/mask_rcnn_r50_fpn_v2.yaml",
    "keypointrcnn_resnet50_fpn": f"{_RECIPES}/keypoint_rcnn_r50_fpn.yaml",
    "retinanet_resnet50_fpn": f"{_RECIPES}/retinanet_r50_fpn.yaml",
    "retinanet_resnet50_fpn_v2": f"{_RECIPES}/retinanet_r50_fpn_v2.yaml",
    "fcos_resnet50_fpn": f"{_RECIPES}/fcos_r50_fpn.yaml",
}
# Backbones of ours, or of torchvision's own layouts.
_BACKBONES = re.compile(r"resnet\d+|resnext\w+|wide_resnet\w+|swin_[tsb]")


@cache
def torchvision_models() -> dict[str, ModelEntry]:
    """Return the detectors, ResNets and Swins by name: `torchvision_resnet50.imagenet1k_v2`."""
    return _entries(torchvision.models.detection, "") | _entries(torchvision.models, "imagenet")


def _entries(module: ModuleType, task: str) -> dict[str, ModelEntry]:
    return {entry.name: entry for name in list_models(module=module) for entry in _of(name, task)}


def _of(model: str, task: str) -> Iterator[ModelEntry]:
    if task and not _BACKBONES.fullmatch(model):
        return
    for weights in get_model_weights(model):
        meta: dict[str, Any] = weights.meta
        digits = re.search(r"-([0-9a-f]{8,})\.pth$", weights.url)
        yield ModelEntry(
            name=f"torchvision_{model}.{weights.name}".lower(),
            family="torchvision",
            task=task or _task(model),
            licence="BSD-3-Clause",
            url=weights.url,
            sha256=digits[1] if digits else "",
            size=round(meta.get("_file_size", 0) * 2**20),
            published=_figures(meta),
            config=_CONFIGS.get(model, ""),
            pixels=_PIXELS,
        )


def _task(model: str) -> str:
    return {"mask": "masks", "keyp": "keypoints"}.get(model[:4], "boxes")


def _figures(meta: dict[str, Any]) -> str:
    parts = []
    for data, metrics in meta.get("_metrics", {}).items():
        figures = ", ".join(f"{name} {value}" for name, value in metrics.items())
        parts.append(f"{figures} on {data}")
    return "; ".join(parts)
