"""Pooling of region features from the pyramid level of each region's size (arXiv:1612.03144)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import RoIPool

from detectron2.layers import ROIAlign, ROIAlignRotated, cat
from detectron2.structures.rotated_boxes import BoxLists

__all__ = ["ROIPooler"]


def assign_boxes_to_levels(
    box_lists: BoxLists,
    min_level: int,
    max_level: int,
    canonical_box_size: int,
    canonical_level: int,
) -> Tensor:
    """Assign each box to a pyramid level, counted from `min_level` (FPN, equation 1).

    Args:
        box_lists: boxes per image, M in total.
        min_level, max_level: levels of the pyramid: log2 of the strides.
        canonical_box_size: square root of the area, in pixels, of a box at `canonical_level`.

    Returns:
        (M,) int64.
    """
    side = cat([boxes.area() for boxes in box_lists]).sqrt()
    # 1e-8 keeps the logarithm finite for boxes without area.
    level = torch.floor(canonical_level + torch.log2(side / canonical_box_size + 1e-8))
    return level.clamp(min=min_level, max=max_level).to(torch.int64) - min_level


def convert_boxes_to_pooler_format(box_lists: BoxLists) -> Tensor:
    """Concatenate the boxes of all images to (M, 5): the index of the image, then the box.

    Rotated boxes give (M, 6).
    """
    return cat(
        [
            torch.cat([torch.full_like(boxes.tensor[:, :1], index), boxes.tensor], dim=1)
            for index, boxes in enumerate(box_lists)
        ]
    )


def _create_zeros(
    batch_target: Tensor | None, channels: int, height: int, width: int, like_tensor: Tensor
) -> Tensor:
    """Create zeros (M, channels, height, width), M as in `batch_target` (M, ...) or 0 for None."""
    count = 0 if batch_target is None else batch_target.shape[0]
    return like_tensor.new_zeros([count, channels, height, width])


class ROIPooler(nn.Module):
    """RoI pooling of every box from one of several feature maps.

    Args:
        output_size: (height, width) of the pooled features, or one number for both.
        scales: 1 / stride of each feature map, finest first; strides are powers of two.
        sampling_ratio: as in `ROIAlign`.
        pooler_type: "ROIAlignV2" (pixel centres at .5), "ROIAlign" (the older convention),
            "ROIPool", or "ROIAlignRotated" for rotated boxes.
        canonical_box_size, canonical_level: as in `assign_boxes_to_levels`.
    """

    def __init__(
        self,
        output_size: int | tuple[int, int] | list[int],
        scales: Sequence[float],
        sampling_ratio: int,
        pooler_type: str,
        canonical_box_size: int = 224,
        canonical_level: int = 4,
    ) -> None:
        super().__init__()
        if isinstance(output_size, int):
            output_size = (output_size, output_size)
        self.output_size = (output_size[0], output_size[1])
        self.level_poolers = nn.ModuleList(
            self._pooler(pooler_type, scale, sampling_ratio) for scale in scales
        )
        levels = [-math.log2(scale) for scale in (scales[0], scales[-1])]
        if any(not level.is_integer() for level in levels):
            raise ValueError(f"scales of a pooler are powers of two, got {list(scales)}")
        self.min_level, self.max_level = (int(level) for level in levels)
        if self.max_level - self.min_level + 1 != len(scales):
            raise ValueError(f"scales of a pooler halve from one to the next: {list(scales)}")
        self.canonical_level = canonical_level
        self.canonical_box_size = canonical_box_size

    def _pooler(self, kind: str, scale: float, sampling_ratio: int) -> nn.Module:
        if kind == "ROIPool":
            return RoIPool(self.output_size, spatial_scale=scale)
        if kind == "ROIAlignRotated":
            return ROIAlignRotated(self.output_size, scale, sampling_ratio)
        if kind not in ("ROIAlign", "ROIAlignV2"):
            known = "ROIAlignV2, ROIAlign, ROIPool, ROIAlignRotated"
            raise ValueError(f"no pooler named {kind!r}; the known ones: {known}")
        # "ROIAlign" keeps the half-pixel misalignment of Detectron1, for its checkpoints.
        return ROIAlign(self.output_size, scale, sampling_ratio, aligned=kind == "ROIAlignV2")

    def forward(self, x: list[Tensor], box_lists: BoxLists) -> Tensor:
        """Pool maps (B, C, H, W) at each image's boxes, M in total, to (M, C, height, width)."""
        if len(x) != len(self.level_poolers):
            raise ValueError(f"{len(x)} feature maps for {len(self.level_poolers)} levels")
        height, width = self.output_size
        if len(box_lists) == 0:
            return _create_zeros(None, x[0].shape[1], height, width, x[0])
        if len(box_lists) != x[0].shape[0]:
            raise ValueError(f"boxes of {len(box_lists)} images in a batch of {x[0].shape[0]}")
        regions = convert_boxes_to_pooler_format(box_lists)
        if len(x) == 1:
            return self.level_poolers[0](x[0], regions)
        levels = assign_boxes_to_levels(
            box_lists,
            self.min_level,
            self.max_level,
            self.canonical_box_size,
            self.canonical_level,
        )
        pooled = _create_zeros(regions, x[0].shape[1], height, width, x[0])
        for level, pooler in enumerate(self.level_poolers):
            chosen = (levels == level).nonzero().flatten()
            # Also for empty levels, so that every rank has a gradient for each feature.
            pooled = pooled.index_put([chosen], pooler(x[level], regions[chosen]))
        return pooled
