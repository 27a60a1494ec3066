"""RegNet (Radosavovic et al. 2020, arXiv:2003.13678) and its design space AnyNet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from detectron2.layers import CNNBlockBase, ShapeSpec, get_norm

from .backbone import Backbone

__all__ = ["AnyNet", "RegNet", "ResBottleneckBlock", "SimpleStem"]

Norm = str | Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]


def conv2d(
    w_in: int, w_out: int, k: int, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """Build a convolution with an odd kernel and padding that keeps the size, up to the stride."""
    if k % 2 == 0:
        raise ValueError(f"kernels are of odd size, got {k}")
    return nn.Conv2d(w_in, w_out, k, stride=stride, padding=k // 2, groups=groups, bias=bias)


def gap2d() -> nn.AdaptiveAvgPool2d:
    """Build global average pooling."""
    return nn.AdaptiveAvgPool2d((1, 1))


def pool2d(k: int, *, stride: int = 1) -> nn.MaxPool2d:
    """Build max pooling with an odd window and padding that keeps the size, up to the stride."""
    if k % 2 == 0:
        raise ValueError(f"windows are of odd size, got {k}")
    return nn.MaxPool2d(k, stride=stride, padding=k // 2)


def init_weights(m: nn.Module) -> None:
    """Initialise one module as in ResNet."""
    if isinstance(m, nn.Conv2d):
        fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
        nn.init.normal_(m.weight, std=math.sqrt(2.0 / fan_out))
    elif isinstance(m, nn.BatchNorm2d):
        nn.init.ones_(m.weight)
        nn.init.zeros_(m.bias)
    elif isinstance(m, nn.Linear):
        nn.init.normal_(m.weight, std=0.01)
        nn.init.zeros_(m.bias)


class _Stem(CNNBlockBase):
    kernel: int
    reduction: int

    def __init__(self, w_in: int, w_out: int, norm: Norm, activation_class: Activation) -> None:
        super().__init__(w_in, w_out, self.reduction)
        self.conv = conv2d(w_in, w_out, self.kernel, stride=2)
        self.bn = get_norm(norm, w_out)
        self.af = activation_class()
        if self.reduction == 4:
            self.pool = pool2d(3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return _chain(self, x)


class ResStem(_Stem):
    """Stem of a 7x7 convolution and max pooling, both of stride 2: stride 4."""

    kernel, reduction = 7, 4


class SimpleStem(_Stem):
    """Stem of a 3x3 convolution of stride 2."""

    kernel, reduction = 3, 2


def _chain(module: nn.Module, x: Tensor) -> Tensor:
    """Apply the children of a module in order."""
    for child in module.children():
        x = child(x)
    return x


def _add(
    module: nn.Module, name: str, conv: nn.Conv2d, norm: Norm, activation: Activation | None = None
) -> None:
    """Add a convolution `name`, its norm and its activation as children of `module`."""
    module.add_module(name, conv)
    module.add_module(f"{name}_bn", get_norm(norm, conv.out_channels))
    if activation is not None:
        module.add_module(f"{name}_af", activation())


class SE(nn.Module):
    """Squeeze and excitation (arXiv:1709.01507): channel weights computed from channel means."""

    def __init__(self, w_in: int, w_se: int, activation_class: Activation) -> None:
        super().__init__()
        self.avg_pool = gap2d()
        squeeze, excite = conv2d(w_in, w_se, 1, bias=True), conv2d(w_se, w_in, 1, bias=True)
        self.f_ex = nn.Sequential(squeeze, activation_class(), excite, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.f_ex(self.avg_pool(x))


class VanillaBlock(CNNBlockBase):
    """Two 3x3 convolutions without shortcut."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: Activation,
        _params: Any,
    ) -> None:
        super().__init__(w_in, w_out, stride)
        _add(self, "a", conv2d(w_in, w_out, 3, stride=stride), norm, activation_class)
        _add(self, "b", conv2d(w_out, w_out, 3), norm, activation_class)

    def forward(self, x: Tensor) -> Tensor:
        return _chain(self, x)


class BasicTransform(nn.Module):
    """Two 3x3 convolutions without the last activation."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: Activation,
        _params: Any,
    ) -> None:
        super().__init__()
        _add(self, "a", conv2d(w_in, w_out, 3, stride=stride), norm, activation_class)
        _add(self, "b", conv2d(w_out, w_out, 3), norm)

    def forward(self, x: Tensor) -> Tensor:
        return _chain(self, x)


class BottleneckTransform(nn.Module):
    """1x1, grouped 3x3 [, squeeze and excitation], 1x1, without the last activation.

    Args:
        params: "bot_mul": inner channels, in multiples of the outer; "group_w": channels per
            group; "se_r": squeezed channels, in multiples of `w_in`, 0 for none.
    """

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: Activation,
        params: dict[str, Any],
    ) -> None:
        super().__init__()
        inner = round(w_out * params["bot_mul"])
        groups = inner // params["group_w"]
        _add(self, "a", conv2d(w_in, inner, 1), norm, activation_class)
        grouped = conv2d(inner, inner, 3, stride=stride, groups=groups)
        _add(self, "b", grouped, norm, activation_class)
        if params["se_r"]:
            self.se = SE(inner, round(w_in * params["se_r"]), activation_class)
        _add(self, "c", conv2d(inner, w_out, 1), norm)

    def forward(self, x: Tensor) -> Tensor:
        return _chain(self, x)


class _ResBlock(CNNBlockBase):
    """A transform and a shortcut, which is a convolution if the shape changes."""

    transform: type[nn.Module]

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: Activation,
        params: Any,
    ) -> None:
        super().__init__(w_in, w_out, stride)
        self.proj: nn.Conv2d | None = None
        self.bn: nn.Module | None = None
        if w_in != w_out or stride != 1:
            self.proj = conv2d(w_in, w_out, 1, stride=stride)
            self.bn = get_norm(norm, w_out)
        self.f = self.transform(w_in, w_out, stride, norm, activation_class, params)
        self.af = activation_class()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.proj is None else cast(nn.Module, self.bn)(self.proj(x))
        return self.af(shortcut + self.f(x))


class ResBasicBlock(_ResBlock):
    """`BasicTransform` with a shortcut."""

    transform = BasicTransform


class ResBottleneckBlock(_ResBlock):
    """`BottleneckTransform` with a shortcut."""

    transform = BottleneckTransform


class AnyStage(nn.Module):
    """A stage of `d` blocks, of which the first has the stride.

    Args:
        params: the last argument of a block.
    """

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        d: int,
        block_class: Callable[..., CNNBlockBase],
        norm: Norm,
        activation_class: Activation,
        params: Any,
    ) -> None:
        super().__init__()
        for index in range(d):
            block = block_class(w_in, w_out, stride, norm, activation_class, params)
            self.add_module(f"b{index + 1}", block)
            w_in, stride = w_out, 1

    def forward(self, x: Tensor) -> Tensor:
        return _chain(self, x)


class AnyNet(Backbone):
    """AnyNet: a stem and stages "s1", "s2", ...

    Args:
        stem_class: called with (channels in, channels out, norm, activation).
        stem_width: channels of the stem.
        block_class: called with (channels in, channels out, stride, norm, activation, params).
        depths, widths, strides: blocks, channels and stride of each stage.
        group_widths: channels per group, in each stage.
        bottleneck_ratios: inner channels in multiples of the outer, in each stage.
        se_ratio: squeezed channels in multiples of the block's input; 0 for none.
        activation_class: constructor of the activations.
        freeze_at: number of parts, among stem and stages, that are frozen.
        norm: normalisation, see `get_norm`.
        out_features: among "stem", "s1", ...; by default the last.
    """

    def __init__(
        self,
        *,
        stem_class: Callable[..., CNNBlockBase],
        stem_width: int,
        block_class: Callable[..., CNNBlockBase],
        depths: Sequence[int],
        widths: Sequence[int],
        group_widths: Sequence[int],
        strides: Sequence[int],
        bottleneck_ratios: Sequence[float],
        se_ratio: float,
        activation_class: Activation,
        freeze_at: int = 0,
        norm: Norm = "BN",
        out_features: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.stem = stem_class(3, stem_width, norm, activation_class)
        width, stride = stem_width, self.stem.stride
        self._out_feature_strides = {"stem": stride}
        self._out_feature_channels = {"stem": stem_width}
        self.stages_and_names: list[tuple[nn.Module, str]] = []
        stages = zip(depths, widths, strides, bottleneck_ratios, group_widths, strict=True)
        for number, (depth, w_out, step, ratio, group) in enumerate(stages, 1):
            params = {"bot_mul": ratio, "group_w": group, "se_r": se_ratio}
            stage = AnyStage(width, w_out, step, depth, block_class, norm, activation_class, params)
            name = f"s{number}"
            self.add_module(name, stage)
            self.stages_and_names.append((stage, name))
            width, stride = w_out, stride * step
            self._out_feature_strides[name] = stride
            self._out_feature_channels[name] = width
        self.apply(init_weights)
        names = list(self._out_feature_strides)
        self._out_features = names[-1:] if out_features is None else list(out_features)
        unknown = sorted(set(self._out_features) - set(names))
        if unknown or not self._out_features:
            raise ValueError(f"out_features are some of {names}, got {out_features}")
        self.freeze(freeze_at)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (B, 3, H, W) to the feature maps named by `out_features`."""
        if x.dim() != 4:
            raise ValueError(f"images are (B, C, H, W), got {tuple(x.shape)}")
        features = {}
        for block, name in [(self.stem, "stem"), *self.stages_and_names]:
            x = block(x)
            if name in self._out_features:
                features[name] = x
        return features

    def output_shape(self) -> dict[str, ShapeSpec]:
        return super().output_shape()

    def freeze(self, freeze_at: int = 0) -> AnyNet:
        """Freeze the first `freeze_at` parts among the stem and the stages."""
        if freeze_at >= 1:
            self.stem.freeze()
        for stage, _ in self.stages_and_names[: max(freeze_at - 1, 0)]:
            for block in stage.children():
                cast(CNNBlockBase, block).freeze()
        return self


def adjust_block_compatibility(
    ws: Sequence[int], bs: Sequence[float], gs: Sequence[int]
) -> tuple[list[int], list[float], list[int]]:
    """Adjust widths to multiples of the group widths.

    Args:
        ws, bs, gs: width, bottleneck ratio and group width of each stage.
    """
    if not len(ws) == len(bs) == len(gs):
        raise ValueError("widths, bottleneck ratios and group widths are of the same number")
    if min(*ws, *bs, *gs) <= 0:
        raise ValueError("widths, bottleneck ratios and group widths are positive")
    widths, groups = [], []
    for width, ratio, group in zip(ws, bs, gs, strict=True):
        inner = int(max(1, width * ratio))
        group = int(min(group, inner))
        multiple = math.lcm(group, int(ratio)) if ratio > 1 else group
        inner = max(multiple, round(inner / multiple) * multiple)
        widths.append(int(inner / ratio))
        groups.append(group)
    return widths, list(bs), groups


def generate_regnet_parameters(
    w_a: float, w_0: int, w_m: float, d: int, q: int = 8
) -> tuple[list[int], list[int], int, int, list[int], list[float]]:
    """Generate the stage widths and depths from a line of block widths (section 3.3).

    Args:
        w_a: slope of the line.
        w_0: width of the first block.
        w_m: ratio of the widths of consecutive stages.
        d: total number of blocks.
        q: divisor of the widths.

    Returns:
        Width and depth of each stage, their number, the largest index of a width plus one, and per
        block its width and the width on the line.
    """
    if w_a < 0 or w_0 <= 0 or w_m <= 1 or w_0 % q:
        raise ValueError(f"RegNet of w_a {w_a} >= 0, w_0 {w_0} > 0 in {q}s, w_m {w_m} > 1")
    line = np.arange(d) * w_a + w_0
    steps = np.round(np.log(line / w_0) / np.log(w_m))
    quantized = np.round(w_0 * np.power(w_m, steps) / q).astype(int) * q
    widths, depths = np.unique(quantized, return_counts=True)
    return (
        widths.tolist(),
        depths.tolist(),
        len(widths),
        int(steps.max()) + 1,
        quantized.tolist(),
        line.tolist(),
    )


class RegNet(AnyNet):
    """RegNet: an `AnyNet` whose widths are a quantized linear function of depth.

    Args:
        depth: total number of blocks.
        w_a, w_0, w_m: as in `generate_regnet_parameters`.
        group_width, stride, bottleneck_ratio: the same in every stage.
        others: as in `AnyNet`; the activation is ReLU by default.
    """

    def __init__(
        self,
        *,
        stem_class: Callable[..., CNNBlockBase],
        stem_width: int,
        block_class: Callable[..., CNNBlockBase],
        depth: int,
        w_a: float,
        w_0: int,
        w_m: float,
        group_width: int,
        stride: int = 2,
        bottleneck_ratio: float = 1.0,
        se_ratio: float = 0.0,
        activation_class: Activation | None = None,
        freeze_at: int = 0,
        norm: Norm = "BN",
        out_features: Sequence[str] | None = None,
    ) -> None:
        line, depths = generate_regnet_parameters(w_a, w_0, w_m, depth)[:2]
        count = len(depths)
        widths, ratios, groups = adjust_block_compatibility(
            line, [bottleneck_ratio] * count, [group_width] * count
        )
        super().__init__(
            depths=depths,
            widths=widths,
            group_widths=groups,
            bottleneck_ratios=ratios,
            strides=[stride] * count,
            se_ratio=se_ratio,
            stem_class=stem_class,
            stem_width=stem_width,
            block_class=block_class,
            norm=norm,
            activation_class=activation_class or _relu,
            out_features=out_features,
            freeze_at=freeze_at,
        )


def _relu() -> nn.ReLU:
    return nn.ReLU(inplace=True)
