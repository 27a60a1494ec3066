"""Dynamic head: a feature pyramid refined by attention to scale, to space and to the task.

Source: Dai et al., "Dynamic Head: Unifying Object Detection Heads with Attentions", 2021,
arXiv:2106.08322; section 3 and figure 2.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from d2ext.errors import ConfigError
from d2ext.modeling.init import init_normal
from d2ext.modeling.lookup import get_registered
from d2ext.ops import deform_conv2d_levels, flat_read
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone

NORM_GROUPS = 16
TAPS = 9  # of a 3x3 kernel

# A feature (B, C, H, W); (dy, dx) of every tap, in pixels, (B, 18, h, w); and factors of the taps,
# (B, 9, h, w).
Taps = tuple[Tensor, Tensor, Tensor]


def resized(tensor: Tensor, height: int, width: int) -> Tensor:
    """Resize offsets or masks (B, C, H, W) to a coarser level: (B, C, height, width)."""
    return F.interpolate(tensor, (height, width), mode="bilinear", align_corners=False)


# How a coarser neighbour reads a level's offsets and masks, which are larger than it. The paper
# resizes; the published weights were trained with, and need, what their kernel does: "flat".
# From scratch it is no worse either: 5 epochs of configs/dyhead_regnetx200m.yaml on the built-in
# shapes give, with two seeds, an AP of 31.8 and 29.4, compared with 30.0 and 28.3 with "resize".
COARSE_OFFSETS: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "flat": flat_read,
    "resize": resized,
}


@BACKBONE_REGISTRY.register()
class DyHead(Backbone):
    """Attention blocks on a feature pyramid, whose names, strides and shapes they keep.

    Args:
        backbone: the pyramid; its levels have the same number of channels, a multiple of 16, and
            each has twice the stride of the one before.
        num_blocks: blocks, one after the other.
        size_divisibility: images are padded to multiples of this, in pixels.
        coarse_offsets: one of `COARSE_OFFSETS`.
        use_checkpoint: gradient checkpointing: attend again in the backward pass instead of keeping
            a dozen maps per level.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        num_blocks: int,
        size_divisibility: int,
        coarse_offsets: str,
        use_checkpoint: bool,
    ) -> None:
        super().__init__()
        if coarse_offsets not in COARSE_OFFSETS:
            raise ConfigError(
                f"MODEL.DYHEAD.COARSE_OFFSETS: {coarse_offsets!r} is none of "
                f"{', '.join(COARSE_OFFSETS)}"
            )
        self.backbone = backbone
        channels = _common_channels(backbone.output_shape())
        self.blocks = nn.ModuleList(
            DyHeadBlock(channels, coarse_offsets, use_checkpoint) for _ in range(num_blocks)
        )
        self._size_divisibility = size_divisibility

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        dyhead = cfg.MODEL.DYHEAD
        backbone = get_registered(BACKBONE_REGISTRY, "MODEL.DYHEAD.BACKBONE", dyhead.BACKBONE)
        options = {key.lower(): value for key, value in dyhead.items()}
        return {**options, "backbone": backbone(cfg, input_shape)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the refined levels of (B, 3, H, W) images, each (B, channels, h, w)."""
        pyramid = self.backbone(images)
        levels = list(pyramid.values())
        for block in self.blocks:
            levels = block(levels)
        return dict(zip(pyramid, levels, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        return self.backbone.output_shape()

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility


def _common_channels(shapes: dict[str, ShapeSpec]) -> int:
    widths = {name: int(shape.channels or 0) for name, shape in shapes.items()}
    first = next(iter(widths.values()))
    if set(widths.values()) != {first} or first % NORM_GROUPS:
        raise ConfigError(
            f"MODEL.DYHEAD.BACKBONE: levels need the same number of channels, a multiple of "
            f"{NORM_GROUPS}, not {', '.join(f'{k} {v}' for k, v in widths.items())} "
            "(MODEL.FPN.OUT_CHANNELS sets it for FPNBackbone)"
        )
    return first


class DyHeadBlock(nn.Module):
    """One block: spatial, then scale, then task attention on each level (figure 2)."""

    def __init__(
        self, channels: int, coarse_offsets: str = "flat", use_checkpoint: bool = True
    ) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.spatial = SpatialAttention(channels, coarse_offsets)
        self.scale = ScaleAttention(channels)
        self.task = TaskAttention(channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Refine levels (B, C, h, w), finest first, each half as large as the one before."""
        if not (self.use_checkpoint and self.training and torch.is_grad_enabled()):
            return self._attend(range(len(levels)), *levels)
        # One level at a time, since its maps are what memory has to hold. Nothing in a block is
        # random, so that the state of the generators need not be kept.
        options: Any = {"use_reentrant": False, "preserve_rng_state": False}
        refined = [checkpoint(self._attend, [i], *levels, **options) for i in range(len(levels))]
        return [level for (level,) in refined]

    def _attend(self, indices: Sequence[int], *levels: Tensor) -> list[Tensor]:
        return [self.task(self.scale(views)) for views in self.spatial(levels, indices)]


class SpatialAttention(nn.Module):
    """Spatial attention: deformable convolutions of a level and its neighbours.

    Offsets and masks are predicted from the level itself.
    """

    def __init__(self, channels: int, coarse_offsets: str) -> None:
        super().__init__()
        self.read_coarsely = COARSE_OFFSETS[coarse_offsets]
        self.offset = nn.Conv2d(channels, 3 * TAPS, kernel_size=3, padding=1)
        self.coarser = DeformConvNorm(channels, stride=1)
        self.same = DeformConvNorm(channels, stride=1)
        self.finer = DeformConvNorm(channels, stride=2)
        init_normal(self.offset, std=0.0)
        # Random filters alone, six blocks deep, would hide the pyramid from an untrained head:
        # from scratch, 74 steps on plain shapes reach an AP of 4.6 instead of 0.0.
        with torch.no_grad():
            self.same.weight.add_(nn.init.dirac_(torch.empty_like(self.same.weight)))

    def forward(self, levels: Sequence[Tensor], indices: Sequence[int]) -> list[list[Tensor]]:
        """Return the views (B, C, h, w) of levels from themselves and 1 or 2 neighbours each.

        Args:
            indices: the levels to view.
        """
        taps = {i: self.taps_of(levels[i]) for i in indices}
        same = self.same([(levels[i], *taps[i]) for i in indices])
        views = {i: [view] for i, view in zip(indices, same, strict=True)}
        below = [i for i in indices if i > 0]
        found = self.finer([(levels[i - 1], *taps[i]) for i in below])
        for i, view in zip(below, found, strict=True):
            views[i].append(view)
        above = [i for i in indices if i + 1 < len(levels)]
        found = self.coarser([self.read_above(levels[i + 1], *taps[i]) for i in above])
        for i, view in zip(above, found, strict=True):
            size = levels[i].shape[-2:]
            views[i].append(F.interpolate(view, size, mode="bilinear", align_corners=True))
        return list(views.values())

    def taps_of(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the offsets (B, 18, h, w) and masks (B, 9, h, w) of a level."""
        offset, mask = self.offset(level).split((2 * TAPS, TAPS), dim=1)
        return offset, mask.sigmoid()

    def read_above(self, coarse: Tensor, offset: Tensor, mask: Tensor) -> Taps:
        """Return a coarser level with a level's offsets and masks in its size."""
        size = coarse.shape[-2:]
        return coarse, self.read_coarsely(offset, *size), self.read_coarsely(mask, *size)


class DeformConvNorm(nn.Module):
    """A modulated deformable 3x3 convolution and a group norm."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.norm = nn.GroupNorm(NORM_GROUPS, channels)
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, levels: Sequence[Taps]) -> list[Tensor]:
        """Convolve the features of some levels, each (B, C, H, W), to (B, C, h, w)."""
        found = deform_conv2d_levels(
            [feature for feature, _, _ in levels],
            [offset for _, offset, _ in levels],
            self.weight,
            self.bias,
            stride=self.stride,
            padding=1,
            masks=[mask for _, _, mask in levels],
        )
        return [self.norm(view) for view in found]


class ScaleAttention(nn.Module):
    """Scale attention: the mean of a level's views, each weighted by its content (equation 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, kernel_size=1)
        init_normal(self.conv)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Average views (B, C, h, w)."""
        # The division goes to the weights, one number per image, not to the maps.
        weights = [self.weight_of(view) / len(views) for view in views]
        mean = views[0] * weights[0]
        for view, weight in zip(views[1:], weights[1:], strict=True):
            mean = torch.addcmul(mean, view, weight)
        return mean

    def weight_of(self, view: Tensor) -> Tensor:
        """Return the weight (B, 1, 1, 1) of a view, in [0, 1]."""
        # A linear layer: as a convolution of one pixel its gradients take ten times as long.
        score = F.linear(view.mean((2, 3)), self.conv.weight.flatten(1), self.conv.bias)
        return F.hardsigmoid(score.relu())[:, :, None, None]


class TaskAttention(nn.Module):
    """Task attention: dynamic ReLU, the larger of two linear functions per channel (equation 5)."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, 4 * channels)

    def forward(self, level: Tensor) -> Tensor:
        """Activate a level (B, C, h, w)."""
        hidden = self.fc1(level.mean((2, 3))).relu()
        theta = F.hardsigmoid(self.fc2(hidden)) - 0.5
        slope1, shift1, slope2, shift2 = theta[:, :, None, None].chunk(4, dim=1)
        # The second function plus what the first has over it, where that is positive: cheaper to
        # differentiate than a maximum.
        second = torch.addcmul(shift2, level, 2 * slope2)
        return second + torch.addcmul(shift1 - shift2, level, 2 * (slope1 - slope2) + 1).relu()
