"""RoI pooling layers of any model replaced by d2ext's, which compute the same in less time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from d2ext import layers as own
from d2ext.registry import ExtensionRegistry
from detectron2 import layers
from detectron2.modeling.poolers import (
    ROIPooler,
    assign_boxes_to_levels,
    convert_boxes_to_pooler_format,
)

BuildLayer = Callable[[Any], nn.Module]

_LAYERS: ExtensionRegistry[type[nn.Module], BuildLayer] = ExtensionRegistry("pooling layer")


def register_pooling_layer(kind: type[nn.Module], build: BuildLayer) -> None:
    """Register the replacement of a pooling layer, by its class.

    Args:
        kind: the class that is replaced; subclasses are left alone.
        build: takes the layer and returns a module that is called with the same arguments, maps
            (B, C, H, W) and regions (K, 5) or (K, 6), and returns the same up to rounding. Neither
            has parameters.
    Raises:
        ValueError: the class has a replacement.
    """
    _LAYERS.register(kind, build)


def replace_pooling_layers(model: nn.Module) -> nn.Module:
    """Replace every layer of a registered class, in place; return the model."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) in _LAYERS:
                setattr(parent, name, _LAYERS.get(type(child), name)(child))
    return model


class SortingROIPooler(nn.Module):
    """Detectron2's `ROIPooler` that pools level by level and sorts once.

    The original copies all pooled features once per level, forward and backward.

    Args:
        pooler: the original, whose layers and settings are used.
    """

    def __init__(self, pooler: Any) -> None:
        super().__init__()
        self.level_poolers, self.output_size = pooler.level_poolers, pooler.output_size
        self.min_level, self.max_level = pooler.min_level, pooler.max_level
        self.canonical_level = pooler.canonical_level
        self.canonical_box_size = pooler.canonical_box_size

    def forward(self, x: list[Tensor], box_lists: list[Any]) -> Tensor:
        """Pool maps (B, C, H, W) at each image's boxes, M in total, to (M, C, height, width)."""
        if not box_lists:
            return x[0].new_zeros((0, x[0].shape[1], *self.output_size))
        regions = convert_boxes_to_pooler_format(box_lists)
        if len(x) == 1:
            return self.level_poolers[0](x[0], regions)
        canonical = self.canonical_box_size, self.canonical_level
        levels = assign_boxes_to_levels(box_lists, self.min_level, self.max_level, *canonical)
        order = levels.argsort()
        counts = levels.bincount(minlength=len(x)).tolist()
        # Empty levels, too, so that every rank has a gradient for each feature.
        parts = zip(self.level_poolers, x, regions[order].split(counts), strict=True)
        pooled = torch.cat([pooler(level, own) for pooler, level, own in parts])
        return pooled.index_select(0, order.argsort())


def _roi_align(layer: Any) -> nn.Module:
    options = layer.output_size, layer.spatial_scale, layer.sampling_ratio
    return own.ROIAlign(*options, aligned=layer.aligned)


def _roi_align_rotated(layer: Any) -> nn.Module:
    return own.ROIAlignRotated(layer.output_size, layer.spatial_scale, layer.sampling_ratio)


register_pooling_layer(ROIPooler, SortingROIPooler)
register_pooling_layer(layers.ROIAlign, _roi_align)
register_pooling_layer(layers.ROIAlignRotated, _roi_align_rotated)
