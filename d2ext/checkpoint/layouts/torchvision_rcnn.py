"""The layouts of torchvision's Faster, Mask and Keypoint R-CNN with a ResNet-50 FPN, and their v2.

Source: https://github.com/pytorch/vision, torchvision/models/detection. The background is class 0
there and the last one here.
"""

import re
from collections.abc import Callable, Sequence

from torch import Tensor

from d2ext.checkpoint.layouts.layout import IMAGENET_RGB, Layout, Renaming, Weights, has
from d2ext.checkpoint.layouts.torchvision_fpn import (
    COCO_ROWS,
    RCNN_FINEST,
    backbone_renamings,
    statistics_without_epsilon,
)

_PREDICTORS = "roi_heads.box_predictor."
_MASKS = "roi_heads.mask_head.predictor."
_CLASSES = 90  # of COCO by torchvision's numbering, without the background

_COMMON: tuple[Renaming, ...] = (
    *backbone_renamings(RCNN_FINEST),
    (r"^rpn\.head\.cls_logits\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"^rpn\.head\.bbox_pred\.", "proposal_generator.rpn_head.anchor_deltas."),
    (r"^roi_heads\.mask_predictor\.conv5_mask\.", "roi_heads.mask_head.deconv."),
    (r"^roi_heads\.mask_predictor\.mask_fcn_logits\.", _MASKS),
    (
        r"^roi_heads\.keypoint_predictor\.kps_score_lowres\.",
        "roi_heads.keypoint_head.score_lowres.",
    ),
)


def _keypoint_conv(found: re.Match[str]) -> str:
    return f"roi_heads.keypoint_head.conv_fcn{int(found[1]) // 2 + 1}."


def _numbered(head: str, name: str) -> Callable[[re.Match[str]], str]:
    """Return a replacement for the convolution, or the norm, of layer `found[1]` of a head."""

    def replace(found: re.Match[str]) -> str:
        norm = "norm." if found[2] == "1" else ""
        return f"roi_heads.{head}.{name}{int(found[1]) + 1}.{norm}"

    return replace


_MASK_CONVS: Renaming = (
    r"^roi_heads\.mask_head\.(\d)\.([01])\.",
    _numbered("mask_head", "mask_fcn"),
)


def _classes_here(weights: Weights) -> dict[str, Tensor]:
    """Return the predictors with the background moved from the first class to the last."""
    moved = {}
    for kind in ("weight", "bias"):
        scores = weights[f"{_PREDICTORS}cls_score.{kind}"]
        moved[f"{_PREDICTORS}cls_score.{kind}"] = scores.roll(-1, 0)
        # Boxes and masks of the background are never learned.
        moved[f"{_PREDICTORS}bbox_pred.{kind}"] = weights[f"{_PREDICTORS}bbox_pred.{kind}"][4:]
        masks = weights.get(f"roi_heads.mask_predictor.mask_fcn_logits.{kind}")
        if masks is not None:
            moved[f"{_MASKS}{kind}"] = masks[1:]
    return moved


def _select_coco(name: str, tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the rows of COCO's 80 classes where the file has 90 and the model 80."""
    rows, wanted = next(iter(tensor.shape), 0), next(iter(shape), 0)
    if name.startswith(f"{_PREDICTORS}cls_score.") and (rows, wanted) == (_CLASSES + 1, 81):
        return tensor[[*COCO_ROWS.tolist(), -1]]
    if name.startswith(f"{_PREDICTORS}bbox_pred.") and (rows, wanted) == (4 * _CLASSES, 320):
        return tensor.unflatten(0, (_CLASSES, 4))[COCO_ROWS].flatten(0, 1)
    if name.startswith(_MASKS) and (rows, wanted) == (_CLASSES, 80):
        return tensor[COCO_ROWS]
    return tensor


def _is_rcnn(weights: Weights) -> bool:
    return has(weights, r"backbone\.body\.conv1\.weight", r"rpn\.head\.cls_logits\.weight") and has(
        weights, r"roi_heads\.box_predictor\.cls_score\.weight"
    )


def _is_v2(weights: Weights) -> bool:
    return _is_rcnn(weights) and "rpn.head.conv.1.0.weight" in weights


_RENAMINGS: tuple[Renaming, ...] = (
    *_COMMON,
    (r"^rpn\.head\.conv\.(0\.0\.)?(?=\w+$)", "proposal_generator.rpn_head.conv."),
    (r"^roi_heads\.box_head\.fc6\.", "roi_heads.box_head.fc1."),
    (r"^roi_heads\.box_head\.fc7\.", "roi_heads.box_head.fc2."),
    _MASK_CONVS,
    (r"^roi_heads\.keypoint_head\.(\d+)\.", _keypoint_conv),
)


def _computed(weights: Weights) -> dict[str, Tensor]:
    statistics = statistics_without_epsilon(weights, TORCHVISION_RCNN.rename)
    return _classes_here(weights) | statistics


TORCHVISION_RCNN = Layout(
    name="torchvision R-CNN",
    recognise=lambda weights: _is_rcnn(weights) and not _is_v2(weights),
    renamings=_RENAMINGS,
    computed=_computed,
    select_rows=_select_coco,
    expects=f"{IMAGENET_RGB} and the rest of configs/rcnn/torchvision/faster_rcnn_r50_fpn.yaml",
)

TORCHVISION_RCNN_V2 = Layout(
    name="torchvision R-CNN v2",
    recognise=_is_v2,
    renamings=(
        *_COMMON,
        (r"^rpn\.head\.conv\.(\d)\.0\.", r"proposal_generator.rpn_head.conv.conv\1."),
        (r"^roi_heads\.box_head\.(\d)\.([01])\.", _numbered("box_head", "conv")),
        (r"^roi_heads\.box_head\.5\.", "roi_heads.box_head.fc1."),
        _MASK_CONVS,
    ),
    computed=_classes_here,
    select_rows=_select_coco,
    expects=f"{IMAGENET_RGB} and the rest of configs/rcnn/torchvision/faster_rcnn_r50_fpn_v2.yaml",
)
