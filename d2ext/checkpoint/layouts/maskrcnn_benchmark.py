"""The layouts of maskrcnn-benchmark's R-CNNs, C4 and FPN, and of its RetinaNet.

Source: https://github.com/facebookresearch/maskrcnn-benchmark. The background is class 0 there and
the last one here. Its boxes count both border pixels, as Detectron's of Caffe2; ours do not.
"""

import re

from torch import Tensor

from d2ext.checkpoint.layouts.anchor_order import by_size
from d2ext.checkpoint.layouts.layout import Layout, Renaming, Weights, has

_BODY = r"^((?:module\.)?backbone\.body|(?:module\.)?roi_heads\.box\.feature_extractor\.head)"
_BOX, _MASK = r"^roi_heads\.box\.", r"^roi_heads\.mask\."
_PREDICTORS = "roi_heads.box_predictor."
_MASKS = "roi_heads.mask_head.predictor."
_RPN = "proposal_generator.rpn_head."
_UNUSED = (
    r"(module\.)?rpn\.anchor_generator\..*",
    r"(module\.)?roi_heads\.(mask|keypoint)\.feature_extractor\.head\..*",  # shared with the boxes
)


def _pyramid(found: re.Match[str]) -> str:
    kind = {"inner": "lateral", "layer": "output"}[found[1]]
    norm = "norm." if found[3] == "1." else ""
    return f"backbone.fpn_{kind}{int(found[2]) + 1}.{norm}"


def _stage(found: re.Match[str]) -> str:
    """Place a stage in the backbone, or res5 in the C4 head."""
    number = int(found[2]) + 1
    return f"roi_heads.res{number}." if "roi_heads" in found[1] else f"backbone.res{number}."


def _conv_of_box_head(found: re.Match[str]) -> str:
    layer = int(found[1])
    # Convolution, group norm and ReLU take turns.
    return f"roi_heads.box_head.conv{layer // 3 + 1}.{'norm.' if layer % 3 == 1 else ''}"


def _mask_conv(found: re.Match[str]) -> str:
    return f"roi_heads.mask_head.mask_fcn{found[1]}.{'norm.' if found[2] == '1.' else ''}"


_RENAMINGS: tuple[Renaming, ...] = (
    (r"^module\.", ""),
    (_BODY + r"\.layer(\d)\.", _stage),
    (r"^backbone\.body\.stem\.bn1\.", "backbone.stem.conv1.norm."),
    (r"^backbone\.body\.", "backbone."),
    (r"\.(res\d\.\d+)\.downsample\.0\.", r".\1.shortcut."),
    (r"\.(res\d\.\d+)\.downsample\.1\.", r".\1.shortcut.norm."),
    (r"\.(res\d\.\d+)\.bn(\d)\.", r".\1.conv\2.norm."),
    (r"\.(res\d\.\d+)\.conv2\.offset\.", r".\1.conv2_offset."),
    (r"\.(res\d\.\d+)\.conv2\.conv\.", r".\1.conv2."),
    (r"^backbone\.fpn\.fpn_(inner|layer)(\d)\.([01]\.)?", _pyramid),
    (r"^rpn\.head\.cls_logits\.", f"{_RPN}objectness_logits."),
    (r"^rpn\.head\.bbox_pred\.", f"{_RPN}anchor_deltas."),
    (r"^rpn\.head\.conv\.", f"{_RPN}conv."),
    (_BOX + r"feature_extractor\.xconvs\.(\d+)\.", _conv_of_box_head),
    (_BOX + r"feature_extractor\.fc6\.", "roi_heads.box_head.fc1."),
    (_BOX + r"feature_extractor\.fc7\.", "roi_heads.box_head.fc2."),
    (_BOX + r"predictor\.", _PREDICTORS),
    (_MASK + r"feature_extractor\.mask_fcn(\d)\.([01]\.)?", _mask_conv),
    (_MASK + r"predictor\.conv5_mask\.", "roi_heads.mask_head.deconv."),
    (_MASK + r"predictor\.mask_fcn_logits\.", _MASKS),
    (r"^roi_heads\.keypoint\.feature_extractor\.", "roi_heads.keypoint_head."),
    (
        r"^roi_heads\.keypoint\.predictor\.kps_score_lowres\.",
        "roi_heads.keypoint_head.score_lowres.",
    ),
)


def _computed(weights: Weights) -> dict[str, Tensor]:
    """Return the predictors with classes and anchors in our order.

    The background moves from the first class to the last.
    """
    moved = {}
    for name, value in weights.items():
        ours = MASKRCNN_BENCHMARK.rename(name)
        if ours.startswith(f"{_PREDICTORS}cls_score."):
            moved[ours] = value.roll(-1, 0)
        elif ours.startswith(f"{_PREDICTORS}bbox_pred."):
            moved[ours] = value[4:]  # boxes and masks of the background are never learned
        elif ours.startswith(_MASKS):
            moved[ours] = value[1:]
        elif ours.startswith(f"{_RPN}objectness_logits."):
            moved[ours] = by_size(value, 1)
        elif ours.startswith(f"{_RPN}anchor_deltas."):
            moved[ours] = by_size(value, 4)
    return moved


_RETINANET: tuple[Renaming, ...] = (
    (r"^module\.", ""),
    (r"^rpn\.head\.(cls|bbox)_tower\.", r"head.\1_subnet."),
    (r"^rpn\.head\.cls_logits\.", "head.cls_score."),
    (r"^rpn\.head\.bbox_pred\.", "head.bbox_pred."),
    (r"^backbone\.fpn\.top_blocks\.", "backbone.top_block."),
)


def _retinanet_computed(weights: Weights) -> dict[str, Tensor]:
    """Return RetinaNet's predictors with anchors in our order; there is no background."""
    names = {MASKRCNN_BENCHMARK_RETINANET.rename(name): name for name in weights}
    anchors = len(weights[names["head.bbox_pred.bias"]]) // 4
    moved = {}
    for part in ("cls_score", "bbox_pred"):
        for kind in ("weight", "bias"):
            rows = weights[names[f"head.{part}.{kind}"]]
            moved[f"head.{part}.{kind}"] = by_size(rows, len(rows) // max(anchors, 1))
    return moved


def _is_retinanet(weights: Weights) -> bool:
    return has(
        weights,
        r"(module\.)?backbone\.fpn\.fpn_inner\d\.weight",
        r"(module\.)?rpn\.head\.cls_tower\.0\.weight",
        *(rf"(module\.)?rpn\.head\.{part}\.bias" for part in ("cls_logits", "bbox_pred")),
    )


def _with_pyramid(weights: Weights) -> bool:
    return _is_rcnn(weights) and has(weights, r"(module\.)?backbone\.fpn\.fpn_inner\d\..*")


def _is_rcnn(weights: Weights) -> bool:
    return has(
        weights, r"(module\.)?backbone\.body\.stem\.conv1\.weight", r"(module\.)?rpn\.head\..*"
    )


_PIXELS = (
    "INPUT.FORMAT BGR, MODEL.PIXEL_MEAN [102.9801, 115.9465, 122.7717], "
    "MODEL.PIXEL_STD [1.0, 1.0, 1.0], "
)
_EXPECTS = f"{_PIXELS}MODEL.ROI_BOX_HEAD.POOLER_TYPE ROIAlign with POOLER_SAMPLING_RATIO 2 (C4: 0)"

MASKRCNN_BENCHMARK = Layout(
    name="maskrcnn-benchmark C4",
    recognise=lambda weights: _is_rcnn(weights) and not _with_pyramid(weights),
    renamings=_RENAMINGS,
    unused=_UNUSED,
    computed=_computed,
    expects=_EXPECTS,
)

MASKRCNN_BENCHMARK_FPN = Layout(
    name="maskrcnn-benchmark FPN",
    recognise=_with_pyramid,
    renamings=(*_RENAMINGS, (r"^backbone\.(?=stem\.|res\d\.)", "backbone.bottom_up.")),
    unused=_UNUSED,
    computed=_computed,
    expects=_EXPECTS,
)

MASKRCNN_BENCHMARK_RETINANET = Layout(
    name="maskrcnn-benchmark RetinaNet",
    recognise=_is_retinanet,
    renamings=(
        *_RETINANET,
        *_RENAMINGS,
        (r"^backbone\.(?=stem\.|res\d\.)", "backbone.bottom_up."),
    ),
    unused=_UNUSED,
    computed=_retinanet_computed,
    expects=f"{_PIXELS}MODEL.RETINANET.BBOX_REG_WEIGHTS [10.0, 10.0, 5.0, 5.0]",
)
