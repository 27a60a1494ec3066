"""The layout of torchvision's ResNets and ResNeXts, whose names timm shares.

Source: https://github.com/pytorch/vision
"""

import re

from d2ext.checkpoint.layouts.layout import IMAGENET_RGB, Layout, Weights

_NAMES = r"(conv1|bn1|fc|layer[1-4]\.\d+\.(conv\d|bn\d|downsample\.[01]))\.\w+"


def _recognise(weights: Weights) -> bool:
    # Variants with another stem or more layers per block have other names, too.
    return "layer1.0.conv1.weight" in weights and all(re.fullmatch(_NAMES, n) for n in weights)


def _stage(found: re.Match[str]) -> str:
    return f"res{int(found[1]) + 1}."


TORCHVISION_RESNET = Layout(
    name="torchvision and timm ResNet",
    recognise=_recognise,
    renamings=(
        (r"^(conv1|bn1)\.", r"stem.\1."),
        (r"^layer(\d)\.", _stage),
        (r"\.downsample\.0\.", ".shortcut."),
        (r"\.downsample\.1\.", ".shortcut.norm."),
        (r"\.bn(\d)\.", r".conv\1.norm."),
    ),
    unused=(r"fc\..*",),
    bare=True,
    expects=f"{IMAGENET_RGB}, MODEL.RESNETS.STRIDE_IN_1X1 False",
)
