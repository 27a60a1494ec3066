"""The layouts of Detectron's R-CNNs, C4 and FPN, and RetinaNet of Caffe2: .pkl files of its zoo.

Source: https://github.com/facebookresearch/Detectron/blob/main/MODEL_ZOO.md. The background is
class 0 there and the last one here. Its boxes count both border pixels; ours do not.
"""

import re
from collections.abc import Callable

from torch import Tensor

from d2ext.checkpoint.layouts.anchor_order import by_size
from d2ext.checkpoint.layouts.caffe2_resnet import neutral_statistics, rename_blob
from d2ext.checkpoint.layouts.layout import Layout, Renaming, Weights, has

_RPN = "proposal_generator.rpn_head"
_END = r"(?=_(?:gn_)?[wbs]$)"


def _tower(found: re.Match[str]) -> str:
    """Return the name of a convolution of RetinaNet's towers, which alternate with ReLUs."""
    return f"head.{found[1]}_subnet.{2 * int(found[2])}"


_HEADS: tuple[Renaming, ...] = (
    (rf"^fpn_inner_res(\d)_\d+_sum(?:_lateral)?{_END}", r"backbone.fpn_lateral\1"),
    (rf"^fpn_res(\d)_\d+_sum{_END}", r"backbone.fpn_output\1"),
    (rf"^conv_rpn(?:_fpn2)?{_END}", f"{_RPN}.conv"),
    (rf"^rpn_cls_logits(?:_fpn2)?{_END}", f"{_RPN}.objectness_logits"),
    (rf"^rpn_bbox_pred(?:_fpn2)?{_END}", f"{_RPN}.anchor_deltas"),
    (rf"^fc6{_END}", "roi_heads.box_head.fc1"),
    (rf"^fc7{_END}", "roi_heads.box_head.fc2"),
    (rf"^head_conv(\d){_END}", r"roi_heads.box_head.conv\1"),
    (rf"^(cls_score|bbox_pred){_END}", r"roi_heads.box_predictor.\1"),
    (rf"^_\[mask\]_fcn(\d){_END}", r"roi_heads.mask_head.mask_fcn\1"),
    (rf"^conv5_mask{_END}", "roi_heads.mask_head.deconv"),
    (rf"^mask_fcn_logits{_END}", "roi_heads.mask_head.predictor"),
    (rf"^conv_fcn(\d){_END}", r"roi_heads.keypoint_head.conv_fcn\1"),
    (rf"^kps_score_lowres{_END}", "roi_heads.keypoint_head.score_lowres"),
    (rf"^fpn_([67]){_END}", r"backbone.top_block.p\1"),
    (rf"^retnet_(cls|bbox)_conv_n(\d)_fpn3{_END}", _tower),
    (rf"^retnet_cls_pred_fpn3{_END}", "head.cls_score"),  # its anchors have our order
    (rf"^retnet_bbox_pred_fpn3{_END}", "head.bbox_pred"),
    # After a part of the heads: "_w" of a backbone's blob is renamed with the blob.
    (r"^(\w+\..*)_gn_s$", r"\1.norm.weight"),
    (r"^(\w+\..*)_gn_b$", r"\1.norm.bias"),
    (r"^(\w+\..*)_w$", r"\1.weight"),
    (r"^(\w+\..*)_b$", r"\1.bias"),
)
_BACKBONE = r"^(?:res_)?(?:conv1|res\d)_.*$"
_UNUSED = (r".*_momentum", r"lr", r"conv1_b", r"kps_score_[wb]", r"model_iter", r"weight_order")


def _c4_blob(found: re.Match[str]) -> str:
    return _c4_place(rename_blob(found[0]))


def _c4_place(name: str) -> str:
    return f"{'roi_heads' if name.startswith('res5.') else 'backbone'}.{name}"


def _fpn_blob(found: re.Match[str]) -> str:
    return f"backbone.bottom_up.{rename_blob(found[0])}"


# Our names of the predictors, and how their rows become ours.
_REORDERED: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "cls_score": ("roi_heads.box_predictor.cls_score", lambda rows: rows.roll(-1, 0)),
    # Boxes and masks of the background are never learned.
    "bbox_pred": ("roi_heads.box_predictor.bbox_pred", lambda rows: rows[4:]),
    "mask_fcn_logits": ("roi_heads.mask_head.predictor", lambda rows: rows[1:]),
    "rpn_cls_logits": (f"{_RPN}.objectness_logits", lambda rows: by_size(rows, 1)),
    "rpn_bbox_pred": (f"{_RPN}.anchor_deltas", lambda rows: by_size(rows, 4)),
}


def _predictors(weights: Weights) -> dict[str, Tensor]:
    """Return the predictors with classes and anchors in our order.

    The background moves from the first class to the last.
    """
    return {
        f"{ours}.{kind}": reorder(weights[f"{blob}_{kind[0]}"])
        for blob, (ours, reorder) in _REORDERED.items()
        for kind in ("weight", "bias")
        if f"{blob}_{kind[0]}" in weights
    }


def _c4_computed(weights: Weights) -> dict[str, Tensor]:
    statistics = neutral_statistics(weights)
    return _predictors(weights) | {_c4_place(n): value for n, value in statistics.items()}


def _fpn_computed(weights: Weights) -> dict[str, Tensor]:
    statistics = neutral_statistics(weights)
    placed = {f"backbone.bottom_up.{name}": value for name, value in statistics.items()}
    return _predictors(weights) | placed


def _is_retinanet(weights: Weights) -> bool:
    return has(weights, "conv1_w", "res2_0_branch2a_w", "retnet_cls_pred_fpn3_w")


def _is_detector(weights: Weights) -> bool:
    return has(weights, "conv1_w", "res2_0_branch2a_w", r"conv_rpn(_fpn2)?_w")


def _has_pyramid(weights: Weights) -> bool:
    return has(weights, r"fpn_inner_res\d_\d+_sum_w")


_PIXELS = (
    "INPUT.FORMAT BGR, MODEL.PIXEL_MEAN [102.9801, 115.9465, 122.7717], "
    "MODEL.PIXEL_STD [1.0, 1.0, 1.0]"
)
_EXPECTS = f"{_PIXELS}, MODEL.ROI_BOX_HEAD.POOLER_TYPE ROIAlign"

CAFFE2_DETECTRON = Layout(
    name="Detectron C4",
    recognise=lambda weights: _is_detector(weights) and not _has_pyramid(weights),
    renamings=(*_HEADS, (_BACKBONE, _c4_blob)),
    unused=_UNUSED,
    computed=_c4_computed,
    expects=_EXPECTS,
)

CAFFE2_DETECTRON_FPN = Layout(
    name="Detectron FPN",
    recognise=lambda weights: _is_detector(weights) and _has_pyramid(weights),
    renamings=(*_HEADS, (_BACKBONE, _fpn_blob)),
    unused=_UNUSED,
    computed=_fpn_computed,
    expects=_EXPECTS,
)

CAFFE2_RETINANET = Layout(
    name="Detectron RetinaNet",
    recognise=_is_retinanet,
    renamings=(*_HEADS, (_BACKBONE, _fpn_blob)),
    unused=_UNUSED,
    computed=_fpn_computed,
    expects=_PIXELS,
)
