"""What torchvision's detectors share: a ResNet "body" below an FPN, and COCO's 91 class numbers.

Source: https://github.com/pytorch/vision, torchvision/models/detection. Files written before
torchvision 0.13, its COCO_V1 ones among them, lack one level of `Sequential` in some names; both
forms are known here.
"""

import re
from collections.abc import Callable

import torch
from torch import Tensor

from d2ext.checkpoint.layouts.layout import Renaming, Weights

RCNN_FINEST, DENSE_FINEST = 2, 3  # the level of the finest map of each pyramid: P2 or P3

# torchvision numbers COCO's classes by their ids, of which these are unused.
_UNUSED_COCO_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_ROWS = torch.tensor([i - 1 for i in range(1, 91) if i not in _UNUSED_COCO_IDS])

_EPSILON = 1e-5  # eps of Detectron2's batch norms


def backbone_renamings(finest: int) -> tuple[Renaming, ...]:
    """Return the renamings of the body and of a pyramid whose finest level is P`finest`."""

    def level(found: re.Match[str]) -> str:
        kind = {"inner": "lateral", "layer": "output"}[found[1]]
        return f"backbone.fpn_{kind}{int(found[2]) + finest}."

    def stage(found: re.Match[str]) -> str:
        return f"backbone.bottom_up.res{int(found[1]) + 1}."

    return (
        (r"^backbone\.body\.(conv1|bn1)\.", r"backbone.bottom_up.stem.\1."),
        (r"^backbone\.body\.layer(\d)\.", stage),
        (r"(backbone\.bottom_up\..*)\.downsample\.0\.", r"\1.shortcut."),
        (r"(backbone\.bottom_up\..*)\.downsample\.1\.", r"\1.shortcut.norm."),
        (r"(backbone\.bottom_up\..*)\.bn(\d)\.", r"\1.conv\2.norm."),
        (r"^backbone\.fpn\.(inner|layer)_blocks\.(\d)\.1\.(?=\w+$)", lambda m: f"{level(m)}norm."),
        (r"^backbone\.fpn\.(inner|layer)_blocks\.(\d)\.(0\.)?(?=\w+$)", level),
        (r"^backbone\.fpn\.extra_blocks\.", "backbone.top_block."),
    )


def statistics_without_epsilon(weights: Weights, rename: Callable[[str], str]) -> dict[str, Tensor]:
    """Return running variances of the COCO_V1 files, whose frozen norms had no epsilon.

    Detectron2's norms add one, which is subtracted here. The files are known by their old names.
    """
    if "backbone.fpn.inner_blocks.0.weight" not in weights:
        return {}
    return {
        rename(name): value - _EPSILON
        for name, value in weights.items()
        if name.startswith("backbone.body.") and name.endswith("running_var")
    }
