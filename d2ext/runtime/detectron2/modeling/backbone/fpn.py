"""Feature pyramid networks (Lin et al. 2017, arXiv:1612.03144) on any backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.layers import Conv2d, ShapeSpec, get_norm

from .backbone import Backbone
from .build import BACKBONE_REGISTRY
from .resnet import build_resnet_backbone

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = ["FPN", "build_resnet_fpn_backbone", "build_retinanet_resnet_fpn_backbone"]


class FPN(Backbone):
    """FPN with levels "p<level>", where the stride is 2 to the power of the level.

    Args:
        bottom_up: a backbone with `in_features`.
        in_features: names of its features, finest first; strides double from one to the next.
        out_channels: channels of every pyramid level.
        norm: normalisation after each convolution, see `get_norm`.
        top_block: computes coarser levels. It has `num_levels` and `in_feature`, the name of a
            bottom-up or pyramid feature, and returns a list of maps when called with it.
        fuse_type: fusion of a level with the upsampled one above: "sum" or "avg".
        square_pad: if positive, images should be padded to squares of this side in pixels.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str = "",
        top_block: Any = None,
        fuse_type: str = "sum",
        square_pad: int = 0,
    ) -> None:
        super().__init__()
        if fuse_type not in ("sum", "avg"):
            raise ValueError(f"fuse_type is 'sum' or 'avg', got {fuse_type!r}")
        shapes: Mapping[str, Any] = bottom_up.output_shape()
        levels = _levels(in_features, shapes)
        # Coarsest first: the order of the top-down pass.
        self.lateral_convs: list[Conv2d] = []
        self.output_convs: list[Conv2d] = []
        for name, level in zip(in_features, levels, strict=True):
            lateral = _conv(shapes[name].channels, out_channels, 1, norm)
            output = _conv(out_channels, out_channels, 3, norm)
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", output)
            self.lateral_convs.insert(0, lateral)
            self.output_convs.insert(0, output)
        self.top_block = top_block
        self.in_features = tuple(in_features)
        self._top_down = self.in_features[::-1]
        self.bottom_up = bottom_up
        if top_block is not None:
            levels += [levels[-1] + 1 + i for i in range(top_block.num_levels)]
        self._out_feature_strides = {f"p{level}": 2**level for level in levels}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)
        self._size_divisibility = shapes[in_features[-1]].stride
        self._square_pad = square_pad
        self._fuse_type = fuse_type

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"square_size": self._square_pad}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (B, C, H, W) to {"p<level>": (B, out_channels, H / stride, W / stride)}."""
        # TorchScript compiles this, too: no optional tensors, `reversed` or strict zips.
        bottom_up = self.bottom_up(x)
        results: list[Tensor] = []  # finest first
        above = x
        for name, lateral, output in zip(self._top_down, self.lateral_convs, self.output_convs):  # noqa: B905
            merged = lateral(bottom_up[name])
            if len(results) > 0:
                merged = merged + F.interpolate(above, scale_factor=2.0, mode="nearest")
                # The mean of two maps keeps their scale.
                if self._fuse_type == "avg":
                    merged = merged / 2
            above = merged
            results.insert(0, output(merged))
        if self.top_block is not None:
            source = self.top_block.in_feature
            if source in bottom_up:
                results.extend(self.top_block(bottom_up[source]))
            else:
                results.extend(self.top_block(results[self._out_features.index(source)]))
        pyramid: dict[str, Tensor] = {}
        for index, name in enumerate(self._out_features):
            pyramid[name] = results[index]
        return pyramid

    def __prepare_scriptable__(self) -> FPN:
        """Return the form for torch.jit.script: convolutions in lists, not under their names."""
        # TorchScript compiles a module under one name only: drop the second one.
        net = deepcopy(self)
        for name, child in self.named_children():
            if child in self.lateral_convs or child in self.output_convs:
                delattr(net, name)
        net.lateral_convs = nn.ModuleList(net.lateral_convs)  # type: ignore[assignment]
        net.output_convs = nn.ModuleList(net.output_convs)  # type: ignore[assignment]
        return net

    def output_shape(self) -> dict[str, ShapeSpec]:
        return super().output_shape()


def _conv(in_channels: int, out_channels: int, size: int, norm: str) -> Conv2d:
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=size,
        padding=size // 2,
        bias=norm == "",
        norm=get_norm(norm, out_channels),
    )
    weight_init.c2_xavier_fill(conv)
    return conv


def _levels(in_features: Sequence[str], shapes: Mapping[str, Any]) -> list[int]:
    if not in_features:
        raise ValueError("an FPN needs at least one input feature")
    missing = [name for name in in_features if name not in shapes]
    if missing:
        raise ValueError(f"the backbone has no feature {missing}, it has {list(shapes)}")
    strides = [shapes[name].stride for name in in_features]
    _assert_strides_are_log2_contiguous(strides)
    # log2 of a power of two, without floating point.
    level = strides[0].bit_length() - 1
    return list(range(level, level + len(strides)))


# Packages import this private name.
def _assert_strides_are_log2_contiguous(strides: Sequence[int]) -> None:
    first = 2 ** (strides[0].bit_length() - 1)
    if list(strides) != [first * 2**i for i in range(len(strides))]:
        raise ValueError(f"strides of an FPN's inputs are doubling powers of 2, got {strides}")


class LastLevelMaxPool(nn.Module):
    """Top block of one level: every second element of "p5", as in the original FPN."""

    def __init__(self) -> None:
        super().__init__()
        self.num_levels = 1
        self.in_feature = "p5"

    def forward(self, x: Tensor) -> list[Tensor]:
        # Subsampling, written as pooling, since it is exported everywhere.
        return [F.max_pool2d(x, kernel_size=1, stride=2, padding=0)]


class LastLevelP6P7(nn.Module):
    """Top block of two levels by convolutions of stride 2, as in RetinaNet (arXiv:1708.02002)."""

    def __init__(self, in_channels: int, out_channels: int, in_feature: str = "res5") -> None:
        super().__init__()
        self.num_levels = 2
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        for conv in (self.p6, self.p7):
            weight_init.c2_xavier_fill(conv)

    def forward(self, c5: Tensor) -> list[Tensor]:
        p6 = self.p6(c5)
        return [p6, self.p7(F.relu(p6))]


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build an FPN on a ResNet, with a max-pooled top level."""
    return _fpn(cfg, build_resnet_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_retinanet_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build an FPN on a ResNet with P6 and P7 computed from "res5"."""
    bottom_up = build_resnet_backbone(cfg, input_shape)
    channels = bottom_up.output_shape()["res5"].channels
    return _fpn(cfg, bottom_up, LastLevelP6P7(channels, cfg.MODEL.FPN.OUT_CHANNELS))


def _fpn(cfg: CfgNode, bottom_up: Backbone, top_block: nn.Module) -> FPN:
    section = cfg.MODEL.FPN
    return FPN(
        bottom_up=bottom_up,
        in_features=section.IN_FEATURES,
        out_channels=section.OUT_CHANNELS,
        norm=section.NORM,
        top_block=top_block,
        fuse_type=section.FUSE_TYPE,
    )
