"""Swin classifiers as their authors publish them, of which our backbone has the names.

Source: https://github.com/microsoft/Swin-Transformer
"""

from d2ext.checkpoint.layouts.layout import IMAGENET_RGB, Layout, Weights, has


def _recognise(weights: Weights) -> bool:
    # timm numbers the patch merging by the stage that follows it.
    first, second = "layers.0.downsample.reduction.weight", "layers.1.downsample.reduction.weight"
    return (
        "patch_embed.proj.weight" in weights
        and has_windows(weights)
        and (first in weights or second not in weights)
    )


def has_windows(weights: Weights) -> bool:
    """Blocks of the first version of Swin, which learns a table of biases."""
    return has(weights, r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table")


SWIN = Layout(
    name="Swin-Transformer",
    recognise=_recognise,
    unused=(r"head\..*", r"norm\..*"),
    bare=True,
    expects=IMAGENET_RGB,
)
