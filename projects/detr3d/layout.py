"""The layouts of the checkpoints of DETR3D, whose names are those of mmdetection3d.

Source: https://github.com/WangYueFt/detr3d
"""

import re

from d2ext.checkpoint.layouts import Layout, Weights, register_layout
from d2ext.checkpoint.layouts.layout import Renaming, has

_HEAD = r"pts_bbox_head\.transformer\.reference_points\.weight"
_LAYERS = r"^head\.transformer\.decoder\.layers\.(\d+)\."


def _stage(found: re.Match[str]) -> str:
    return f"backbone.bottom_up.res{int(found[1]) + 1}."


RESNET: tuple[Renaming, ...] = (
    (r"^(?:img_)?backbone\.(conv1|bn1)\.", r"backbone.bottom_up.stem.\1."),
    (r"^(?:img_)?backbone\.layer(\d)\.", _stage),
    (r"(\.res\d\.\d+)\.downsample\.0\.", r"\1.shortcut."),
    (r"(\.res\d\.\d+)\.downsample\.1\.", r"\1.shortcut.norm."),
    (r"(\.stem|\.res\d\.\d+)\.bn(\d)\.", r"\1.conv\2.norm."),
    (r"\.conv2\.conv_offset\.", ".conv2_offset."),
)

_DECODER: tuple[Renaming, ...] = (
    (r"^pts_bbox_head\.", "head."),
    (r"^head\.transformer\.reference_points\.", "head.reference_points."),
    (_LAYERS + r"attentions\.0\.attn\.", r"head.decoder.layers.\1.self_attn."),
    (_LAYERS + r"attentions\.1\.", r"head.decoder.layers.\1.cross_attn."),
    (_LAYERS + r"ffns\.0\.layers\.0\.0\.", r"head.decoder.layers.\1.feed_forward.linear1."),
    (_LAYERS + r"ffns\.0\.layers\.1\.", r"head.decoder.layers.\1.feed_forward.linear2."),
    (_LAYERS + r"norms\.0\.", r"head.decoder.layers.\1.norm1."),
    (_LAYERS + r"norms\.1\.", r"head.decoder.layers.\1.norm2."),
    (_LAYERS + r"norms\.2\.", r"head.decoder.layers.\1.norm3."),
    (r"^head\.cls_branches\.", "head.class_branches."),
    (r"^head\.reg_branches\.", "head.decoder.box_branches."),
)


def _pyramid(finest: int) -> tuple[Renaming, ...]:
    """Rename the pyramid's convolutions, which count from the finest level, of stride 2**finest."""

    def numbered(found: re.Match[str]) -> str:
        kind, level = found[1], finest + int(found[2])
        if level > 5:
            return "backbone.top_block.p6."
        return f"backbone.fpn_{'lateral' if kind == 'lateral' else 'output'}{level}."

    return ((r"^(?:img_)?neck\.(lateral|fpn)_convs\.(\d)\.conv\.", numbered),)


def _stem(found: re.Match[str]) -> str:
    return f"backbone.bottom_up.stem.{int(found[1]) - 1}."


def _block(found: re.Match[str]) -> str:
    return f"backbone.bottom_up.stage{found[1]}.{int(found[2]) - 1}."


# The authors' names of layers repeat those of the blocks: "OSA3_2.layers.4.OSA3_2_4/conv".
VOVNET: tuple[Renaming, ...] = (
    (r"^(?:img_)?backbone\.stem\.stem_(\d)/", _stem),
    (r"^(?:img_)?backbone\.stage(\d)\.OSA\d_(\d+)\.", _block),
    (r"(\.layers\.\d|\.concat)\.OSA[^/]+/", r"\1."),
    (r"(\.stem\.\d|\.layers\.\d|\.concat)\.conv\.", r"\1."),
    (r"\.ese\.fc\.", ".excite."),
)

# Settings of the losses that are stored among the weights.
_UNUSED = (r"pts_bbox_head\.code_weights",)
# Heads of the detectors whose backbones DETR3D starts from, and their level of stride 128.
_OTHER_HEADS = (r"bbox_head\..*", r"(img_)?neck\.fpn_convs\.4\..*")
_BGR = "INPUT.FORMAT BGR, MODEL.PIXEL_MEAN [103.53, 116.28, 123.675]"
_RESNET_INPUT = f"{_BGR}, MODEL.PIXEL_STD [1.0, 1.0, 1.0], MODEL.RESNETS.STRIDE_IN_1X1 True"
_VOVNET_INPUT = f"{_BGR}, MODEL.PIXEL_STD [57.375, 57.12, 58.395]"


def _has_vovnet(weights: Weights) -> bool:
    return has(weights, r"img_backbone\.stage2\.OSA2_1\..*")


def _recognise_resnet(weights: Weights) -> bool:
    return has(weights, _HEAD) and not _has_vovnet(weights)


def _recognise_fcos3d(weights: Weights) -> bool:
    deformable = has(weights, r"(img_)?backbone\.layer3\.0\.conv2\.conv_offset\.weight")
    return deformable and not has(weights, _HEAD)


FCOS3D = register_layout(
    Layout(
        name="FCOS3D's backbone and pyramid",
        recognise=_recognise_fcos3d,
        renamings=(*RESNET, *_pyramid(3)),
        unused=_OTHER_HEADS,
        expects=_RESNET_INPUT,
    )
)

DETR3D = register_layout(
    Layout(
        name="DETR3D with ResNet",
        recognise=_recognise_resnet,
        renamings=(*RESNET, *_pyramid(3), *_DECODER),
        unused=_UNUSED,
        expects=_RESNET_INPUT,
    )
)

DETR3D_VOVNET = register_layout(
    Layout(
        name="DETR3D with VoVNet",
        recognise=_has_vovnet,
        renamings=(*VOVNET, *_pyramid(2), *_DECODER),
        unused=_UNUSED,
        expects=_VOVNET_INPUT,
    )
)
