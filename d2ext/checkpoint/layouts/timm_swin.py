"""The layout of timm's Swin classifiers since timm 0.9.

Source: https://github.com/huggingface/pytorch-image-models
"""

import re

from d2ext.checkpoint.layouts.layout import IMAGENET_RGB, Layout, Weights
from d2ext.checkpoint.layouts.swin import SWIN, has_windows


def _recognise(weights: Weights) -> bool:
    merging = "layers.1.downsample.reduction.weight"
    return merging in weights and has_windows(weights) and not SWIN.recognise(weights)


def _stage_before(found: re.Match[str]) -> str:
    return f"layers.{int(found[1]) - 1}.downsample."


TIMM_SWIN = Layout(
    name="timm Swin",
    recognise=_recognise,
    renamings=((r"^layers\.(\d+)\.downsample\.", _stage_before),),
    unused=(r"head\..*", r"norm\..*"),
    bare=True,
    expects=IMAGENET_RGB,
)
