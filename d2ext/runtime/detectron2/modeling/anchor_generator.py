"""Anchors: boxes of several sizes and shapes at every position of every feature map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from detectron2.config import configurable
from detectron2.layers import ShapeSpec, move_device_like
from detectron2.structures import Boxes
from detectron2.utils.registry import Registry

if TYPE_CHECKING:
    from detectron2.config import CfgNode

ANCHOR_GENERATOR_REGISTRY = Registry("ANCHOR_GENERATOR")
ANCHOR_GENERATOR_REGISTRY.__doc__ = """Anchor generators by name.

A registered object is called with `(cfg, input_shape: list[ShapeSpec])`.
"""


class BufferList(nn.Module):
    """A list of tensors that move with the module but are not part of its state dict."""

    def __init__(self, buffers: Sequence[Tensor]) -> None:
        super().__init__()
        for index, buffer in enumerate(buffers):
            self.register_buffer(str(index), buffer, persistent=False)

    def __len__(self) -> int:
        return len(self._buffers)

    def __iter__(self) -> Iterator[Tensor]:
        return (buffer for buffer in self._buffers.values() if buffer is not None)


def _one_for_each_level(values: Sequence[Any], num_levels: int, name: str) -> list[list[float]]:
    if not values:
        raise ValueError(f"{name} of an anchor generator is empty")
    lists = [list(v) for v in values] if isinstance(values[0], Sequence) else [list(values)]
    if len(lists) == 1:
        return lists * num_levels
    if len(lists) != num_levels:
        raise ValueError(f"{name} has {len(lists)} lists for {num_levels} feature levels")
    return lists


@ANCHOR_GENERATOR_REGISTRY.register()
class DefaultAnchorGenerator(nn.Module):
    """Axis-aligned anchors (Ren et al. 2015, arXiv:1506.01497).

    Args:
        sizes: square roots of the anchors' areas in pixels: a list for each level, or one list
            for all of them.
        aspect_ratios: heights over widths; as `sizes`.
        strides: of each level, in pixels.
        offset: where in its cell of `stride` pixels the first anchor's centre lies, in [0, 1).
    """

    box_dim = 4

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[float] | Sequence[Sequence[float]],
        aspect_ratios: Sequence[float] | Sequence[Sequence[float]],
        strides: Sequence[int],
        offset: float = 0.5,
    ) -> None:
        super().__init__()
        if not 0.0 <= offset < 1.0:
            raise ValueError(f"offset of an anchor generator is in [0, 1), got {offset}")
        self.strides = list(strides)
        self.num_features = len(self.strides)
        self.offset = offset
        sizes = _one_for_each_level(sizes, self.num_features, "sizes")
        ratios = _one_for_each_level(aspect_ratios, self.num_features, "aspect_ratios")
        self.cell_anchors = BufferList(
            [self.generate_cell_anchors(s, r) for s, r in zip(sizes, ratios, strict=True)]
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        section = cfg.MODEL.ANCHOR_GENERATOR
        return {
            "sizes": section.SIZES,
            "aspect_ratios": section.ASPECT_RATIOS,
            "strides": [shape.stride for shape in input_shape],
            "offset": section.OFFSET,
        }

    @property
    def num_anchors(self) -> list[int]:
        """Anchors at each position, by level; one in the order `forward` gives them."""
        return [len(anchors) for anchors in self.cell_anchors]

    @property
    def num_cell_anchors(self) -> list[int]:
        """`num_anchors` under its older name."""
        return self.num_anchors

    def generate_cell_anchors(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
    ) -> Tensor:
        """Anchors around the origin: (len(sizes) * len(aspect_ratios), 4) XYXY, sizes outermost."""
        size = torch.tensor(sizes, dtype=torch.float64)[:, None]
        ratio = torch.tensor(aspect_ratios, dtype=torch.float64)
        width = (size**2 / ratio).sqrt()
        height = ratio * width
        return (torch.stack([-width, -height, width, height], dim=-1) / 2).reshape(-1, 4).float()

    def forward(self, features: Sequence[Tensor]) -> list[Boxes]:
        """Anchors of each level's map (B, C, H, W): H * W * num_anchors boxes, positions in row
        order outermost."""
        return [
            Boxes(self._on_grid(cell, stride, feature))
            for cell, stride, feature in zip(self.cell_anchors, self.strides, features, strict=True)
        ]

    def _on_grid(self, cell: Tensor, stride: int, feature: Tensor) -> Tensor:
        cell = move_device_like(cell, feature)
        centres = [
            (torch.arange(count, dtype=torch.float32, device=cell.device) + self.offset) * stride
            for count in feature.shape[-2:]
        ]
        y, x = torch.meshgrid(*centres, indexing="ij")
        shifts = torch.stack([x, y, x, y], dim=-1)
        return (shifts.reshape(-1, 1, 4) + cell).reshape(-1, 4)


def build_anchor_generator(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """The anchor generator that `cfg.MODEL.ANCHOR_GENERATOR.NAME` names."""
    return ANCHOR_GENERATOR_REGISTRY.get(cfg.MODEL.ANCHOR_GENERATOR.NAME)(cfg, input_shape)
