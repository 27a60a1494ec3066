"""The layout of EfficientNet-Lite classifiers in efficientnet_lite_pytorch; timm's names are ours.

Source: https://github.com/ml-illustrated/efficientnet-lite-pytorch
"""

import re
from collections.abc import Sequence

from d2ext.checkpoint.layouts.layout import Layout, Renaming, Weights

EXPECTS = "INPUT.FORMAT RGB, MODEL.PIXEL_MEAN [127, 127, 127], MODEL.PIXEL_STD [128, 128, 128]"

_OUTSIDE: tuple[Renaming, ...] = ((r"^_conv_stem\.", "conv_stem."), (r"^_bn0\.", "bn1."))
_FIRST: tuple[Renaming, ...] = (  # the only block that does not expand its channels
    (r"^(blocks\.0\.0\.)_depthwise_conv\.", r"\1conv_dw."),
    (r"^(blocks\.0\.0\.)_project_conv\.", r"\1conv_pw."),
    (r"^(blocks\.0\.0\.)_bn(\d)\.", r"\1bn\2."),
)
_BLOCK: tuple[Renaming, ...] = (
    (r"\._expand_conv\.", ".conv_pw."),
    (r"\._depthwise_conv\.", ".conv_dw."),
    (r"\._project_conv\.", ".conv_pwl."),
    (r"\._bn(\d)\.", lambda found: f".bn{int(found[1]) + 1}."),
)


def _layout(name: str, depths: Sequence[int]) -> Layout:
    """Build the layout of a model with so many blocks per stage."""
    places = [f"blocks.{stage}.{i}." for stage, depth in enumerate(depths) for i in range(depth)]

    def recognise(weights: Weights) -> bool:
        own = f"_blocks.{len(places) - 1}._depthwise_conv.weight" in weights
        more = f"_blocks.{len(places)}._depthwise_conv.weight" in weights
        return own and not more and not any("_se_reduce" in key for key in weights)

    def place(found: re.Match[str]) -> str:
        return places[int(found[1])]

    return Layout(
        name=name,
        recognise=recognise,
        renamings=((r"^_blocks\.(\d+)\.", place), *_OUTSIDE, *_FIRST, *_BLOCK),
        unused=(r"_conv_head\..*", r"_bn1\..*", r"_fc\..*"),
        bare=True,
        expects=EXPECTS,
    )


EFFICIENTNET_LITE0 = _layout("EfficientNet-Lite0", (1, 2, 2, 3, 3, 4, 1))
EFFICIENTNET_LITE1 = _layout("EfficientNet-Lite1 and 2", (1, 3, 3, 4, 4, 5, 1))
