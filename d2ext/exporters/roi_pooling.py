"""RoI pooling with fixed shapes, of standard operators, as an R-CNN's `ROIPooler` computes it."""

from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor

from d2ext.errors import ConfigError

_POOLERS = ("ROIAlign", "ROIAlignV2")


def pool_regions(pooler: Any, features: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Pool the features (B, C, h, w) of all levels at boxes (B, P, 4): (B * P, C, *output_size).

    Args:
        pooler: Detectron2's `ROIPooler`, or one of its attributes.
        boxes: XYXY in pixels of the input.
    """
    batch, count = boxes.shape[:2]
    image = torch.arange(batch, device=boxes.device, dtype=boxes.dtype)
    regions = torch.cat((image[:, None, None].expand(-1, count, 1), boxes), dim=-1).flatten(0, 1)
    if len(features) == 1:
        return _align(pooler.level_poolers[0], features[0], regions)
    levels = _levels(pooler, boxes.flatten(0, 1))
    size = regions.shape[0], features[0].shape[1], *pooler.output_size
    pooled = features[0].new_zeros(size)
    for number, (level, own) in enumerate(zip(features, pooler.level_poolers, strict=True)):
        chosen = (levels == number).nonzero().squeeze(1)
        pooled = pooled.index_put((chosen,), _align(own, level, regions[chosen]))
    return pooled


def check_pooler(pooler: Any) -> None:
    """Raise a ConfigError if `pool_regions` cannot compute what the pooler does."""
    if not all(hasattr(level, "aligned") for level in pooler.level_poolers):
        raise ConfigError(
            f"POOLER_TYPE: {type(pooler.level_poolers[0]).__name__} cannot be exported; those that "
            f"can: {', '.join(_POOLERS)}."
        )


def _align(level: Any, feature: Tensor, regions: Tensor) -> Tensor:
    return torchvision.ops.roi_align(
        feature,
        regions,
        level.output_size,
        level.spatial_scale,
        max(level.sampling_ratio, 0),
        level.aligned,
    )


def _levels(pooler: Any, boxes: Tensor) -> Tensor:
    """Return the level (R,) of each box by its size (FPN, arXiv:1612.03144, equation 1)."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = (pooler.canonical_level + (side / pooler.canonical_box_size + 1e-8).log2()).floor()
    return level.clamp(pooler.min_level, pooler.max_level).long() - pooler.min_level
