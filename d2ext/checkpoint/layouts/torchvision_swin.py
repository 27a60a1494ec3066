"""The layout of torchvision's Swin classifiers (`swin_t`, `swin_s`, `swin_b`).

Source: https://github.com/pytorch/vision
"""

import re

from d2ext.checkpoint.layouts.layout import IMAGENET_RGB, Layout, has


def _merging(found: re.Match[str]) -> str:
    return f"layers.{int(found[1]) // 2 - 1}.downsample."


def _block(found: re.Match[str]) -> str:
    return f"layers.{int(found[1]) // 2}.blocks."


TORCHVISION_SWIN = Layout(
    name="torchvision Swin",
    recognise=lambda weights: has(
        weights, r"features\.0\.0\.weight", r"features\.1\.0\.attn\.relative_position_bias_table"
    ),
    renamings=(
        (r"^features\.0\.0\.", "patch_embed.proj."),
        (r"^features\.0\.2\.", "patch_embed.norm."),
        (r"^features\.(\d+)\.(?=norm\.|reduction\.)", _merging),
        (r"^features\.(\d+)\.(?=\d+\.)", _block),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.3\.", ".mlp.fc2."),
    ),
    unused=(r"head\..*", r"norm\..*"),
    bare=True,
    expects=IMAGENET_RGB,
)
