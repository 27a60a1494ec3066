"""Anchors: boxes of several sizes and shapes at every position of every feature map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, RotatedBoxes
from detectron2.utils.registry import Registry

if TYPE_CHECKING:
    from detectron2.config import CfgNode

ANCHOR_GENERATOR_REGISTRY = Registry("ANCHOR_GENERATOR")
ANCHOR_GENERATOR_REGISTRY.__doc__ = """Anchor generators by name.

A registered object is called with `(cfg, input_shape: list[ShapeSpec])`.
"""


class BufferList(nn.Module):
    """A list of tensors that move with the module but are not in its state dict."""

    def __init__(self, buffers: Sequence[Tensor]) -> None:
        super().__init__()
        for index, buffer in enumerate(buffers):
            # Anchors follow from the config; published checkpoints do not have them.
            self.register_buffer(str(index), buffer, persistent=False)

    def __len__(self) -> int:
        return len(self._buffers)

    def __iter__(self) -> Iterator[Tensor]:
        return (buffer for buffer in self._buffers.values() if buffer is not None)


def _create_grid_offsets(
    size: list[int], stride: int, offset: float, target_device_tensor: Tensor
) -> tuple[Tensor, Tensor]:
    """Return x and y of the positions of a map, (H * W,) float32 pixels each, in row-major order.

    Args:
        size: (height, width) of the map.
        offset: of a position in its cell, in strides.
        target_device_tensor: the result is on its device.
    """
    device = target_device_tensor.device
    centres = [
        (torch.arange(count, dtype=torch.float32, device=device) + offset) * stride
        for count in size
    ]
    y, x = torch.meshgrid(centres, indexing="ij")
    return x.reshape(-1), y.reshape(-1)


def _broadcast_params(values: Sequence[Any], num_levels: int, name: str) -> list[list[float]]:
    if not values:
        raise ValueError(f"{name} of an anchor generator is empty")
    lists = [list(v) for v in values] if isinstance(values[0], Sequence) else [list(values)]
    if len(lists) == 1:
        return lists * num_levels
    if len(lists) != num_levels:
        raise ValueError(f"{name} has {len(lists)} lists for {num_levels} feature levels")
    return lists


class _AnchorGrid:
    """Methods of the anchor generators: cell anchors repeated at every position of each level.

    It has no constructor: `super(DefaultAnchorGenerator, self).__init__()` of packages is
    nn.Module's.
    """

    box_dim: int

    generate_cell_anchors: Callable[..., Tensor]  # the anchors of one level

    @torch.jit.unused
    def _set_levels(self, strides: Sequence[int], offset: float, **options: Sequence[Any]) -> None:
        """Set the attributes; `options` are the arguments of `generate_cell_anchors`, by level."""
        if not 0.0 <= offset < 1.0:
            raise ValueError(f"offset of an anchor generator is in [0, 1), got {offset}")
        self.strides = list(strides)
        self.num_features = len(self.strides)
        self.offset = offset
        levels = [_broadcast_params(v, len(strides), name) for name, v in options.items()]
        self.cell_anchors = self._calculate_anchors(*levels)

    @torch.jit.unused
    def _calculate_anchors(self, *options: list[list[float]]) -> BufferList:
        """Return the cell anchors of each level; packages override this and `_grid_anchors`."""
        levels = zip(*options, strict=True)
        return BufferList([self.generate_cell_anchors(*level).float() for level in levels])

    @property
    @torch.jit.unused
    def num_anchors(self) -> list[int]:
        """Number of anchors per position, by level; all levels in the order of `forward`."""
        return [len(anchors) for anchors in self.cell_anchors]

    @property
    @torch.jit.unused
    def num_cell_anchors(self) -> list[int]:
        """Older name of `num_anchors`."""
        return self.num_anchors

    def _grid_anchors(self, grid_sizes: list[list[int]]) -> list[Tensor]:
        """Repeat the cell anchors over the (height, width) positions of each level's map.

        Returns (H * W * num_anchors, box_dim) per level; positions are outermost, in row-major
        order.
        """
        # TorchScript does not iterate over custom module classes.
        cells = [named[1] for named in self.cell_anchors.named_buffers()]
        return [
            self._on_grid(cell, stride, size)
            for cell, stride, size in zip(cells, self.strides, grid_sizes, strict=True)
        ]

    def _on_grid(self, cell: Tensor, stride: int, size: list[int]) -> Tensor:
        x, y = _create_grid_offsets(size, stride, self.offset, cell)
        box_dim = cell.shape[1]
        return (self._shifts(x, y).reshape(-1, 1, box_dim) + cell).reshape(-1, box_dim)

    def _shifts(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the shift that `x` and `y`, (H * W,) each, add to a box: (H * W, box_dim)."""
        raise NotImplementedError


def _cell_sizes(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Compute widths and heights, (sizes, ratios) float64 each."""
    # Double precision, as Python's floats in Detectron2: anchors are equal to the last bit.
    size = torch.tensor(sizes, dtype=torch.float64)[:, None]
    ratio = torch.tensor(aspect_ratios, dtype=torch.float64)
    width = (size**2 / ratio).sqrt()
    return width, ratio * width


@ANCHOR_GENERATOR_REGISTRY.register()
class DefaultAnchorGenerator(_AnchorGrid, nn.Module):
    """Axis-aligned anchors (Ren et al. 2015, arXiv:1506.01497).

    Args:
        sizes: square roots of the anchors' areas in pixels: a list per level, or one list for all
            levels.
        aspect_ratios: heights over widths, in the form of `sizes`.
        strides: stride of each level in pixels.
        offset: offset of the first anchor's centre in its cell, in strides, in [0, 1).
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
        self._set_levels(strides, offset, sizes=sizes, aspect_ratios=aspect_ratios)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        section = cfg.MODEL.ANCHOR_GENERATOR
        return {
            "sizes": section.SIZES,
            "aspect_ratios": section.ASPECT_RATIOS,
            "strides": [shape.stride for shape in input_shape],
            "offset": section.OFFSET,
        }

    def generate_cell_anchors(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
    ) -> Tensor:
        """Generate the cell anchors: (len(sizes) * len(aspect_ratios), 4) XYXY, sizes outermost."""
        width, height = _cell_sizes(sizes, aspect_ratios)
        return (torch.stack([-width, -height, width, height], dim=-1) / 2).reshape(-1, 4).float()

    def forward(self, features: list[Tensor]) -> list[Boxes]:
        """Generate the anchors of feature maps (B, C, H, W): H * W * num_anchors boxes per level.

        Positions are outermost, in row-major order.
        """
        sizes = [list(feature.shape[-2:]) for feature in features]
        return [Boxes(level) for level in self._grid_anchors(sizes)]

    def _shifts(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([x, y, x, y], dim=-1)


@ANCHOR_GENERATOR_REGISTRY.register()
class RotatedAnchorGenerator(_AnchorGrid, nn.Module):
    """Anchors at several angles (Ma et al. 2018, arXiv:1703.01086).

    Args:
        sizes, aspect_ratios, strides, offset: as in `DefaultAnchorGenerator`.
        angles: degrees counter-clockwise, in the form of `sizes`.
    """

    box_dim = 5

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[float] | Sequence[Sequence[float]],
        aspect_ratios: Sequence[float] | Sequence[Sequence[float]],
        strides: Sequence[int],
        angles: Sequence[float] | Sequence[Sequence[float]],
        offset: float = 0.5,
    ) -> None:
        super().__init__()
        options = {"sizes": sizes, "aspect_ratios": aspect_ratios, "angles": angles}
        self._set_levels(strides, offset, **options)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        upright = DefaultAnchorGenerator.from_config(cfg, input_shape)
        return {**upright, "angles": cfg.MODEL.ANCHOR_GENERATOR.ANGLES}

    def generate_cell_anchors(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
        angles: Sequence[float] = (-90, -60, -30, 0, 30, 60, 90),
    ) -> Tensor:
        """Generate the cell anchors, (len(sizes) * len(aspect_ratios) * len(angles), 5).

        Each is centre, width, height and angle; sizes are outermost, angles innermost.
        """
        width, height = _cell_sizes(sizes, aspect_ratios)
        shape = torch.stack([width, height], dim=-1).reshape(-1, 1, 2)
        angle = torch.tensor(angles, dtype=torch.float64).reshape(1, -1, 1)
        shape, angle = shape.expand(-1, len(angles), -1), angle.expand(len(shape), -1, -1)
        centre = torch.zeros_like(shape)
        return torch.cat([centre, shape, angle], dim=-1).reshape(-1, 5).float()

    def forward(self, features: list[Tensor]) -> list[RotatedBoxes]:
        """Generate the anchors; see `DefaultAnchorGenerator.forward`."""
        sizes = [list(feature.shape[-2:]) for feature in features]
        return [RotatedBoxes(level) for level in self._grid_anchors(sizes)]

    def _shifts(self, x: Tensor, y: Tensor) -> Tensor:
        none = torch.zeros_like(x)
        return torch.stack([x, y, none, none, none], dim=-1)


def build_anchor_generator(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build the anchor generator named by `cfg.MODEL.ANCHOR_GENERATOR.NAME`."""
    return ANCHOR_GENERATOR_REGISTRY.get(cfg.MODEL.ANCHOR_GENERATOR.NAME)(cfg, input_shape)
