"""ResNet (He et al. 2016, arXiv:1512.03385).

Variants: groups (ResNeXt: Xie et al. 2017, arXiv:1611.05431) and deformable blocks (Zhu et al.
2019, arXiv:1811.11168).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.layers import (
    CNNBlockBase,
    Conv2d,
    DeformConv,
    ModulatedDeformConv,
    ShapeSpec,
    get_norm,
)

from .backbone import Backbone
from .build import BACKBONE_REGISTRY

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = [
    "BasicBlock",
    "BasicStem",
    "BottleneckBlock",
    "DeformBottleneckBlock",
    "ResNet",
    "ResNetBlockBase",
    "build_resnet_backbone",
    "make_stage",
]

ResNetBlockBase = CNNBlockBase  # older name, which packages import

BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def _conv(in_channels: int, out_channels: int, size: int, norm: str, **options: Any) -> Conv2d:
    """Build a convolution without bias, "same" padding, then `norm`; He initialisation."""
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=size,
        bias=False,
        norm=get_norm(norm, out_channels),
        **{"padding": size // 2, **options},
    )
    weight_init.c2_msra_fill(conv)
    return conv


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: str) -> Conv2d | None:
    """Build the shortcut of a residual block; None is the identity."""
    # Detectron2 decides by channels alone: a block with a stride also changes the channels.
    if in_channels == out_channels:
        return None
    return _conv(in_channels, out_channels, 1, norm, stride=stride)


class _Residual:
    """Methods of the residual blocks: a branch, defined by a subclass, plus a shortcut.

    It has no constructor: `super(BottleneckBlock, self).__init__(...)` of packages is that of
    `CNNBlockBase`.
    """

    if TYPE_CHECKING:  # TorchScript would read it too
        shortcut: Conv2d | None

    def branch(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        branch = self.branch(x)  # first, because it defines the order in which gradients are summed
        return F.relu_(branch + (x if self.shortcut is None else self.shortcut(x)))


class BasicBlock(_Residual, CNNBlockBase):
    """Basic block of ResNet-18 and 34: two 3x3 convolutions, of which the first has the stride."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, norm: str = "BN"
    ) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)
        self.conv1 = _conv(in_channels, out_channels, 3, norm, stride=stride)
        self.conv2 = _conv(out_channels, out_channels, 3, norm)

    def branch(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu_(self.conv1(x)))


class BottleneckBlock(_Residual, CNNBlockBase):
    """Bottleneck block of ResNet-50, 101 and 152: 1x1 down, 3x3, 1x1 up.

    Args:
        bottleneck_channels: channels of the 3x3 convolution.
        num_groups: groups of the 3x3 convolution.
        stride_in_1x1: put the stride on the first 1x1 convolution (as in the original ResNet),
            not on the 3x3 one.
        dilation: dilation of the 3x3 convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: str = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)
        strides = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = _conv(in_channels, bottleneck_channels, 1, norm, stride=strides[0])
        self.conv2 = _conv(
            bottleneck_channels,
            bottleneck_channels,
            3,
            norm,
            stride=strides[1],
            padding=dilation,
            groups=num_groups,
            dilation=dilation,
        )
        self.conv3 = _conv(bottleneck_channels, out_channels, 1, norm)

    def branch(self, x: Tensor) -> Tensor:
        x = F.relu_(self.conv1(x))
        return self.conv3(F.relu_(self.conv2(x)))


class DeformBottleneckBlock(_Residual, CNNBlockBase):
    """`BottleneckBlock` with a deformable 3x3 convolution.

    Args:
        deform_modulated: also modulate the sampled positions (version 2).
        deform_num_groups: groups of channels with separate offsets.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: str = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
        deform_modulated: bool = False,
        deform_num_groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)
        self.deform_modulated = deform_modulated
        strides = (stride, 1) if stride_in_1x1 else (1, stride)
        place: Any = {"stride": strides[1], "padding": dilation, "dilation": dilation}
        self.conv1 = _conv(in_channels, bottleneck_channels, 1, norm, stride=strides[0])
        self.conv2_offset = Conv2d(
            bottleneck_channels,
            # For each of the 9 kernel positions y and x, and the modulation.
            9 * (3 if deform_modulated else 2) * deform_num_groups,
            kernel_size=3,
            **place,
        )
        self.conv2 = (ModulatedDeformConv if deform_modulated else DeformConv)(
            bottleneck_channels,
            bottleneck_channels,
            kernel_size=3,
            bias=False,
            groups=num_groups,
            deformable_groups=deform_num_groups,
            norm=get_norm(norm, bottleneck_channels),
            **place,
        )
        self.conv3 = _conv(bottleneck_channels, out_channels, 1, norm)
        weight_init.c2_msra_fill(self.conv2)
        for parameter in self.conv2_offset.parameters():
            nn.init.zeros_(parameter)  # initialised to an ordinary convolution

    def branch(self, x: Tensor) -> Tensor:
        x = F.relu_(self.conv1(x))
        where = self.conv2_offset(x)
        if self.deform_modulated:
            points = where.shape[1] // 3
            offset, weight = where.split([2 * points, points], dim=1)
            # The modulation is in [0, 1].
            x = self.conv2(x, offset, weight.sigmoid())
        else:
            x = self.conv2(x, where)
        return self.conv3(F.relu_(x))


class BasicStem(CNNBlockBase):
    """Stem of a 7x7 convolution and 3x3 max pooling, both of stride 2: stride 4."""

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: str = "BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        self.conv1 = _conv(in_channels, out_channels, 7, norm, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class ResNet(Backbone):
    """ResNet: a stem and stages of blocks named "res2", "res3", ...

    Args:
        stem: a `CNNBlockBase`; its output is the feature "stem".
        stages: a list of blocks (or any `CNNBlockBase`) per stage.
        num_classes: if given, adds a classifier with the output feature "linear".
        out_features: names among "stem", "res2", ..., "linear"; by default the last one. Stages
            after the last one named are not built.
        freeze_at: see `freeze`.
    """

    def __init__(
        self,
        stem: CNNBlockBase,
        stages: Sequence[Sequence[CNNBlockBase]],
        num_classes: int | None = None,
        out_features: Sequence[str] | None = None,
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.num_classes = num_classes
        self._out_feature_strides = {"stem": stem.stride}
        self._out_feature_channels = {"stem": stem.out_channels}
        self.stages: list[nn.Sequential] = []
        # Unused parameters would break `DistributedDataParallel`.
        for blocks in stages[: _stages_needed(out_features, len(stages))]:
            self._add_stage(blocks)
        self.stage_names = tuple(f"res{index + 2}" for index in range(len(self.stages)))
        last = list(self._out_feature_channels)[-1]
        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.linear = nn.Linear(self._out_feature_channels[last], num_classes)
            nn.init.normal_(self.linear.weight, std=0.01)
            last = "linear"
        self._out_features = [last] if out_features is None else list(out_features)
        self._check_features()
        self.freeze(freeze_at)

    def _add_stage(self, blocks: Sequence[CNNBlockBase]) -> None:
        if not blocks:
            raise ValueError("a stage of a ResNet has no blocks")
        stride_before = list(self._out_feature_strides.values())[-1]
        name = f"res{len(self.stages) + 2}"
        stage = nn.Sequential(*blocks)
        self.add_module(name, stage)
        self.stages.append(stage)
        strides = [block.stride for block in blocks]
        self._out_feature_strides[name] = stride_before * math.prod(strides)
        self._out_feature_channels[name] = blocks[-1].out_channels

    def _check_features(self) -> None:
        known = ["stem", *self.stage_names, *(["linear"] if self.num_classes else [])]
        wrong = [name for name in self._out_features if name not in known]
        if wrong or not self._out_features:
            raise ValueError(f"out_features {wrong}: the known ones are {', '.join(known)}")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (B, C, H, W) to the features in `out_features`, by name."""
        if x.dim() != 4:
            raise ValueError(f"images must be (B, C, H, W), got {x.shape}")
        # TorchScript compiles this, too: no conditional comprehensions or strict zips.
        features: dict[str, Tensor] = {}
        x = self.stem(x)
        if "stem" in self._out_features:
            features["stem"] = x
        for name, stage in zip(self.stage_names, self.stages):  # noqa: B905
            x = stage(x)
            if name in self._out_features:
                features[name] = x
        if self.num_classes is not None and "linear" in self._out_features:
            features["linear"] = self.linear(self.avgpool(x).flatten(1))
        return features

    def __prepare_scriptable__(self) -> ResNet:
        """Return the form for torch.jit.script: stages in a `ModuleList`, not under their names."""
        net = deepcopy(self)
        net.stages = nn.ModuleList(net.stages)  # type: ignore[assignment]
        for name in self.stage_names:
            delattr(net, name)
        return net

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of each feature map; "linear" has none."""
        return {
            name: ShapeSpec(
                channels=self._out_feature_channels.get(name, self.num_classes),
                stride=self._out_feature_strides.get(name),
            )
            for name in self._out_features
        }

    def freeze(self, freeze_at: int = 0) -> ResNet:
        """Freeze the first parts: 1 the stem, 2 also "res2", and so on; 0 nothing."""
        if freeze_at >= 1:
            self.stem.freeze()
        for stage in self.stages[: max(freeze_at - 1, 0)]:
            for block in stage.children():
                cast(CNNBlockBase, block).freeze()
        return self

    @staticmethod
    def make_stage(
        block_class: type[CNNBlockBase],
        num_blocks: int,
        *,
        in_channels: int,
        out_channels: int,
        **kwargs: Any,
    ) -> list[CNNBlockBase]:
        """Build the blocks of one stage.

        Args:
            in_channels: input channels of the first block; the others have `out_channels`.
            kwargs: arguments of `block_class`; one whose name ends in `_per_block` is a list with
                one value per block, e.g. `stride_per_block=[2, 1, 1]`.
        """
        for name, value in kwargs.items():
            if name.endswith("_per_block") and len(value) != num_blocks:
                raise ValueError(f"{name} has {len(value)} values for {num_blocks} blocks")
        blocks = []
        for index in range(num_blocks):
            options = {
                name.removesuffix("_per_block"): (
                    value[index] if name.endswith("_per_block") else value
                )
                for name, value in kwargs.items()
            }
            channels = in_channels if index == 0 else out_channels
            blocks.append(block_class(channels, out_channels, **options))
        return blocks

    @staticmethod
    def make_default_stages(
        depth: int, block_class: type[CNNBlockBase] | None = None, **kwargs: Any
    ) -> list[list[CNNBlockBase]]:
        """Build the four stages of a ResNet of 18, 34, 50, 101 or 152 layers.

        Args:
            block_class: by default `BasicBlock` below 50 layers, otherwise `BottleneckBlock`.
            kwargs: as in `make_stage`, but the depth defines channels and strides.
        """
        basic = depth < 50
        block_class = block_class or (BasicBlock if basic else BottleneckBlock)
        widths = [64 * 2**i if basic else 256 * 2**i for i in range(4)]
        stages = []
        for index, num_blocks in enumerate(BLOCKS_PER_STAGE[depth]):
            # The published expansion of bottlenecks is 4.
            options = {} if basic else {"bottleneck_channels": widths[index] // 4}
            stages.append(
                ResNet.make_stage(
                    block_class,
                    num_blocks,
                    stride_per_block=[1 if index == 0 else 2] + [1] * (num_blocks - 1),
                    in_channels=widths[index - 1] if index else 64,
                    out_channels=widths[index],
                    **options,
                    **kwargs,
                )
            )
        return stages


def _stages_needed(out_features: Sequence[str] | None, available: int) -> int:
    if out_features is None or "linear" in out_features:
        return available
    numbers = [int(name[3:]) for name in out_features if name[:3] == "res" and name[3:].isdigit()]
    return max(numbers, default=1) - 1


def make_stage(*args: Any, **kwargs: Any) -> list[CNNBlockBase]:
    """Build the blocks of one stage; the older name of `ResNet.make_stage`."""
    return ResNet.make_stage(*args, **kwargs)


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build a ResNet from `cfg.MODEL.RESNETS` and `cfg.MODEL.BACKBONE.FREEZE_AT`.

    Raises:
        ValueError: an option that ResNet-18 and 34 do not support, or a dilation other than 1 or 2.
    """
    section = cfg.MODEL.RESNETS
    _check_section(section)
    stem = BasicStem(cast(int, input_shape.channels), section.STEM_OUT_CHANNELS, section.NORM)
    return configured_resnet(cfg, stem, _configured_stage)


def configured_resnet(
    cfg: CfgNode,
    stem: CNNBlockBase,
    stage: Callable[[CfgNode, int, int, int], list[CNNBlockBase]],
) -> ResNet:
    """Build four stages on a stem.

    Args:
        stage: builds the blocks of a stage, given `cfg.MODEL.RESNETS`, its index, and its input and
            output channels.
    """
    section = cfg.MODEL.RESNETS
    in_channels, stages = section.STEM_OUT_CHANNELS, []
    for index in range(4):
        out_channels = section.RES2_OUT_CHANNELS * 2**index
        stages.append(stage(section, index, in_channels, out_channels))
        in_channels = out_channels
    return ResNet(
        stem, stages, out_features=section.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )


def _check_section(section: CfgNode) -> None:
    if section.RES5_DILATION not in (1, 2):
        raise ValueError(f"MODEL.RESNETS.RES5_DILATION is 1 or 2, got {section.RES5_DILATION}")
    if section.DEPTH not in BLOCKS_PER_STAGE:
        known = ", ".join(map(str, BLOCKS_PER_STAGE))
        raise ValueError(f"MODEL.RESNETS.DEPTH is one of {known}, got {section.DEPTH}")
    if section.DEPTH >= 50:
        return
    only = {"RES2_OUT_CHANNELS": 64, "RES5_DILATION": 1, "NUM_GROUPS": 1}
    wrong = [f"{key} {value}" for key, value in only.items() if section[key] != value]
    if any(section.DEFORM_ON_PER_STAGE):
        wrong.append("DEFORM_ON_PER_STAGE of False")
    if wrong:
        raise ValueError(f"MODEL.RESNETS.DEPTH {section.DEPTH} needs {', '.join(wrong)}")


def _configured_stage(
    section: CfgNode, index: int, in_channels: int, out_channels: int
) -> list[CNNBlockBase]:
    dilation = section.RES5_DILATION if index == 3 else 1
    stride = 1 if index == 0 or dilation == 2 else 2
    num_blocks = BLOCKS_PER_STAGE[section.DEPTH][index]
    if section.DEPTH >= 50:
        dilations = [dilation] * num_blocks
        return bottleneck_stage(section, index, in_channels, out_channels, stride, dilations)
    return ResNet.make_stage(
        BasicBlock,
        num_blocks,
        stride_per_block=[stride] + [1] * (num_blocks - 1),
        in_channels=in_channels,
        out_channels=out_channels,
        norm=section.NORM,
    )


def bottleneck_stage(
    section: CfgNode,
    index: int,
    in_channels: int,
    out_channels: int,
    stride: int,
    dilations: list[int],
) -> list[CNNBlockBase]:
    """Build a stage of bottleneck blocks, deformable ones if configured.

    Args:
        section: `cfg.MODEL.RESNETS`.
        index: 0 for "res2" to 3 for "res5".
        stride: stride of the first block.
        dilations: dilation of each block.
    """
    num_blocks = BLOCKS_PER_STAGE[section.DEPTH][index]
    options: dict[str, Any] = {
        "stride_per_block": [stride] + [1] * (num_blocks - 1),
        "dilation_per_block": dilations,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "bottleneck_channels": section.NUM_GROUPS * section.WIDTH_PER_GROUP * 2**index,
        "num_groups": section.NUM_GROUPS,
        "norm": section.NORM,
        "stride_in_1x1": section.STRIDE_IN_1X1,
    }
    if not section.DEFORM_ON_PER_STAGE[index]:
        return ResNet.make_stage(BottleneckBlock, num_blocks, **options)
    options["deform_modulated"] = section.DEFORM_MODULATED
    options["deform_num_groups"] = section.DEFORM_NUM_GROUPS
    return ResNet.make_stage(DeformBottleneckBlock, num_blocks, **options)
