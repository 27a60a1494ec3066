"""The layout of the authors' Swin classifiers, whose names our backbone has.

Source: https://github.com/microsoft/Swin-Transformer
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from d2ext.checkpoint.layouts.layout import IMAGENET_RGB, Layout, Weights, has

BIASES = "attn.relative_position_bias_table"


def _recognise(weights: Weights) -> bool:
    # timm numbers the patch merging by the stage that follows it.
    first, second = "layers.0.downsample.reduction.weight", "layers.1.downsample.reduction.weight"
    return (
        "patch_embed.proj.weight" in weights
        and has_windows(weights)
        and (first in weights or second not in weights)
    )


def has_windows(weights: Weights) -> bool:
    """Return True for the first version of Swin, which has a relative position bias table."""
    return has(weights, r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table")


def fit_biases(table: Tensor, shape: Sequence[int]) -> Tensor:
    """Resize a relative position bias table bicubically to another window size, as the authors do.

    Args:
        table: ((2 * w - 1)^2, heads), a row per relative position in windows of side w.
        shape: (rows, heads) of the model's table.
    Returns:
        The table in that shape; `table` itself if it has it already, or another number of heads.
    """
    if tuple(table.shape) == tuple(shape) or table.shape[1] != shape[1]:
        return table
    old, new = (round(count**0.5) for count in (len(table), shape[0]))
    image = table.float().T.unflatten(1, (old, old))[None]  # (1, heads, 2w - 1, 2w - 1)
    image = F.interpolate(image, (new, new), mode="bicubic", align_corners=False)
    return image[0].flatten(1).T.to(table.dtype)


SWIN = Layout(
    name="Swin-Transformer",
    recognise=_recognise,
    unused=(r"head\..*", r"norm\..*"),
    bare=True,
    expects=IMAGENET_RGB,
)
