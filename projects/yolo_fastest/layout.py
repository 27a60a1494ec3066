"""Checkpoint layouts of YOLO-FastestV2: the whole model, and its ImageNet backbone alone.

Source: https://github.com/dog-qiuqiu/Yolo-FastestV2
"""

import re

from d2ext.checkpoint.layouts.layout import Layout, Weights, has, register_layout

EXPECTS = (
    "INPUT.FORMAT BGR, MODEL.PIXEL_MEAN [0.0, 0.0, 0.0], MODEL.PIXEL_STD [255.0, 255.0, 255.0]"
)

# Indices of a convolution and of its norm in the file -> of the layer that is both in our model.
_MAIN = {"0": "0", "1": "0.norm", "3": "1", "4": "1.norm", "5": "2", "6": "2.norm"}
_PROJ = {"0": "0", "1": "0.norm", "2": "1", "3": "1.norm"}
_BLOCK = {
    "0": "0",
    "1": "0.norm",
    "3": "1",
    "4": "1.norm",
    "5": "2",
    "6": "2.norm",
    "8": "3",
    "9": "3.norm",
}
_LEVELS = {"2": "stage3", "3": "stage4"}
_KINDS = {"cls": "class", "reg": "box"}


def _main(found: re.Match[str]) -> str:
    return f"main.{_MAIN[found[1]]}."


def _proj(found: re.Match[str]) -> str:
    return f"proj.{_PROJ[found[1]]}."


def _reduce(found: re.Match[str]) -> str:
    return f"backbone.reduce.{_LEVELS[found[1]]}{'.norm' if found[2] == '1' else ''}."


def _branch(found: re.Match[str]) -> str:
    return f"backbone.branches.{_LEVELS[found[2]]}_{_KINDS[found[1]]}.{_BLOCK[found[3]]}."


_BACKBONE = (
    (r"first_conv\.0\.", "stem."),
    (r"first_conv\.1\.", "stem.norm."),
    (r"branch_main\.(\d)\.", _main),
    (r"branch_proj\.(\d)\.", _proj),
)


def _is_bare(weights: Weights) -> bool:
    return has(weights, r"first_conv\.0\.weight", r"stage2\.0\.branch_main\.0\.weight")


register_layout(
    Layout(
        name="Yolo-FastestV2's backbone",
        recognise=_is_bare,
        renamings=_BACKBONE,
        bare=True,
        expects=EXPECTS,
    )
)
register_layout(
    Layout(
        name="Yolo-FastestV2",
        recognise=lambda weights: has(
            weights, r"backbone\.first_conv\..*", r"output_reg_layers\..*"
        ),
        renamings=(
            (r"^backbone\.", "backbone.bottom_up."),
            *_BACKBONE,
            (r"^fpn\.conv1x1_(\d)\.(\d)\.", _reduce),
            (r"^fpn\.(cls|reg)_head_(\d)\.block\.(\d)\.", _branch),
            (r"^output_reg_layers\.", "head.box."),
            (r"^output_obj_layers\.", "head.objectness."),
            (r"^output_cls_layers\.", "head.classes."),
        ),
        expects=EXPECTS,
    )
)
