"""Stems, blocks and stages of a ResNet by name: `MODEL.RESNETS.STEM`, `.BLOCK` and `.STAGES`.

The family of He et al. 2016, arXiv:1512.03385, with the parts of Detectron2, whose parameter names
they have. The idea of three registries is maskrcnn-benchmark's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from d2ext.registry import ExtensionRegistry
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase
from detectron2.modeling.backbone.resnet import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
)


@dataclass(frozen=True)
class BlockShape:
    """What the stage asks of one block.

    Attributes:
        in_channels: channels of its input.
        out_channels: channels of its output.
        bottleneck_channels: channels between the 1x1 convolutions of a bottleneck, all groups.
        stride: stride of the block, 1 or 2.
        dilation: dilation of its 3x3 convolution.
    """

    in_channels: int
    out_channels: int
    bottleneck_channels: int
    stride: int
    dilation: int


StemBuilder = Callable[[CfgNode, int], CNNBlockBase]
BlockBuilder = Callable[[CfgNode, BlockShape], CNNBlockBase]

_STEMS: ExtensionRegistry[str, StemBuilder] = ExtensionRegistry("ResNet stem")
_BLOCKS: ExtensionRegistry[str, BlockBuilder] = ExtensionRegistry("ResNet block")
_STAGES: ExtensionRegistry[str, tuple[int, ...]] = ExtensionRegistry("list of ResNet stages")


def register_stem(name: str, build: StemBuilder) -> None:
    """Make a stem known to `MODEL.RESNETS.STEM`.

    Args:
        build: called with `cfg.MODEL.RESNETS` and the channels of the image; returns a module with
            `STEM_OUT_CHANNELS` output channels and the attribute `stride`.
    """
    _STEMS.register(name, build)


def register_block(name: str, build: BlockBuilder) -> None:
    """Make a residual block known to `MODEL.RESNETS.BLOCK`.

    Args:
        build: called with `cfg.MODEL.RESNETS` and a `BlockShape`; returns a block of that shape.
            `CNNBlockBase` gives it `freeze` for the stages below `MODEL.BACKBONE.FREEZE_AT`.
    """
    _BLOCKS.register(name, build)


def register_stages(name: str, blocks_per_stage: Sequence[int]) -> None:
    """Make a list of stages known to `MODEL.RESNETS.STAGES`.

    Args:
        blocks_per_stage: number of blocks of res2, res3, res4 and res5.
    """
    _STAGES.register(name, tuple(blocks_per_stage))


def build_stem(section: CfgNode, in_channels: int) -> CNNBlockBase:
    """Build the stem named by `MODEL.RESNETS.STEM`."""
    return _STEMS.get(section.STEM, "MODEL.RESNETS.STEM")(section, in_channels)


def build_stage(section: CfgNode, index: int) -> list[CNNBlockBase]:
    """Build the blocks of stage `index`, 0 for res2 to 3 for res5.

    A stage with `DEFORM_ON_PER_STAGE` has deformable bottlenecks instead of the named blocks.
    """
    name = "DeformBottleneckBlock" if section.DEFORM_ON_PER_STAGE[index] else section.BLOCK
    build = _BLOCKS.get(name, "MODEL.RESNETS.BLOCK")
    dilation = section.RES5_DILATION if index == 3 else 1
    first_stride = 1 if index == 0 or dilation > 1 else 2
    width = section.RES2_OUT_CHANNELS * 2**index
    inner = section.NUM_GROUPS * section.WIDTH_PER_GROUP * 2**index
    below = width // 2 if index else section.STEM_OUT_CHANNELS
    shapes = [
        BlockShape(width if n else below, width, inner, 1 if n else first_stride, dilation)
        for n in range(blocks_per_stage(section)[index])
    ]
    return [build(section, shape) for shape in shapes]


def blocks_per_stage(section: CfgNode) -> tuple[int, ...]:
    """Return the numbers of blocks that `STAGES` names; those of `DEPTH` if it is empty."""
    return _STAGES.get(section.STAGES or f"R-{section.DEPTH}", "MODEL.RESNETS.STAGES")


def _basic_stem(section: CfgNode, in_channels: int) -> CNNBlockBase:
    return BasicStem(in_channels, section.STEM_OUT_CHANNELS, section.NORM)


def _basic_block(section: CfgNode, shape: BlockShape) -> CNNBlockBase:
    return BasicBlock(shape.in_channels, shape.out_channels, stride=shape.stride, norm=section.NORM)


def _bottleneck(section: CfgNode, shape: BlockShape) -> CNNBlockBase:
    return BottleneckBlock(shape.in_channels, shape.out_channels, **_options(section, shape))


def _deformable_bottleneck(section: CfgNode, shape: BlockShape) -> CNNBlockBase:
    return DeformBottleneckBlock(
        shape.in_channels,
        shape.out_channels,
        deform_modulated=section.DEFORM_MODULATED,
        deform_num_groups=section.DEFORM_NUM_GROUPS,
        **_options(section, shape),
    )


def _options(section: CfgNode, shape: BlockShape) -> dict:
    return {
        "bottleneck_channels": shape.bottleneck_channels,
        "stride": shape.stride,
        "dilation": shape.dilation,
        "num_groups": section.NUM_GROUPS,
        "norm": section.NORM,
        "stride_in_1x1": section.STRIDE_IN_1X1,
    }


register_stem("BasicStem", _basic_stem)
register_block("BasicBlock", _basic_block)
register_block("BottleneckBlock", _bottleneck)
register_block("DeformBottleneckBlock", _deformable_bottleneck)
register_stages("R-18", (2, 2, 2, 2))
register_stages("R-34", (3, 4, 6, 3))
register_stages("R-50", (3, 4, 6, 3))
register_stages("R-101", (3, 4, 23, 3))
register_stages("R-152", (3, 8, 36, 3))
