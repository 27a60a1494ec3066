"""Input sizes, stride and anchors of a config's model, for the check of object sizes."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

import d2ext.modeling  # noqa: F401 # registers the models
from d2ext.data import DatasetStats
from d2ext.data.checks.context import CheckContext
from d2ext.data.checks.input_size import InputSize
from d2ext.data.formats import DatasetSplit
from d2ext.data.formats.dataset_split import PIXEL_TASKS
from d2ext.engine.auto import resolve_auto
from d2ext.engine.machine import Machine
from detectron2.config import CfgNode
from detectron2.modeling import build_model


def input_size(cfg: CfgNode, dataset: DatasetSplit, machine: Machine) -> InputSize:
    """Return input sizes, finest stride and anchors of a config's model for a data set.

    Args:
        cfg: may have `auto` values, which are derived from the data; not changed.
        dataset: the training data.
        machine: the hardware for `auto` values.
    """
    cfg = cfg.clone()
    resolve_auto(cfg, stats_of(dataset), machine)
    cfg.MODEL.DEVICE = "cpu"
    # Initialising weights draws random numbers, which must not change those of a training.
    with torch.random.fork_rng(devices=[]):
        model = build_model(cfg)
    # Tiles are enlarged as much as whole images are for evaluation.
    sides = [cfg.INPUT.MIN_SIZE_TEST] if cfg.INPUT.SLICE_SIZE else sorted(cfg.INPUT.MIN_SIZE_TRAIN)
    sizes, ratios = _anchors(model.modules())
    return InputSize(
        short_side=sides[len(sides) // 2],
        long_side=cfg.INPUT.MAX_SIZE_TRAIN,
        stride=_finest_stride(model),
        anchor_sizes=sizes,
        anchor_ratios=ratios,
    )


def stats_of(dataset: DatasetSplit) -> DatasetStats:
    """Compute the statistics from which `auto` values are derived."""
    context = CheckContext("", dataset)
    counted = context.usable & ~context.crowd
    owners = context.owners[counted]
    semantic = dataset.task in PIXEL_TASKS
    return DatasetStats(
        class_names=dataset.classes,
        image_sizes=context.image_sizes.astype(np.int64),
        object_sizes=context.raw_boxes[counted, 2:4],
        object_images=owners,
        class_counts=np.bincount(context.labels[counted], minlength=len(dataset.classes)),
        empty_images=len(dataset.images) - len(np.unique(owners)),
        stuff_names=dataset.classes if semantic else (),
    )


def _finest_stride(model: nn.Module) -> int:
    backbone: Any = model.backbone
    return min(shape.stride for shape in backbone.output_shape().values())


def _anchors(modules: Iterable[nn.Module]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return square roots of areas and aspect ratios (height / width) of a model's anchors."""
    sizes, ratios = set(), set()
    for module in modules:
        for cell in getattr(module, "cell_anchors", ()):
            width, height = (cell[:, 2:4] - cell[:, :2]).double().unbind(1)
            if cell.shape[1] == 5:  # XYWHA around the origin
                width, height = cell[:, 2:4].double().unbind(1)
            sizes.update((width * height).sqrt().tolist())
            ratios.update((height / width).tolist())
    return tuple(sorted(sizes)), tuple(sorted(ratios))
