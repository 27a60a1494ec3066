"""The layouts of torchvision's RetinaNet with a ResNet-50 FPN, its v2, and of its FCOS.

Source: https://github.com/pytorch/vision, torchvision/models/detection. Class 0 is never an object
there and has no place here. RetinaNet's anchors are listed by ratio, then size; here by size first.
"""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from d2ext.checkpoint.layouts.layout import IMAGENET_RGB, Layout, Renaming, Weights, has
from d2ext.checkpoint.layouts.torchvision_fpn import (
    COCO_ROWS,
    DENSE_FINEST,
    backbone_renamings,
    statistics_without_epsilon,
)

_SCORES, _BOXES = "head.cls_score.", "head.bbox_pred."
_CLASSES = 90  # of COCO by torchvision's numbering
_RATIOS = 3

_PREDICTORS: tuple[Renaming, ...] = (
    (r"^head\.classification_head\.cls_logits\.", _SCORES),
    (r"^head\.regression_head\.bbox_reg\.", _BOXES),
    (r"^head\.regression_head\.bbox_ctrness\.", "head.ctrness."),
)
_TOWER = r"^head\.(classification|regression)_head\.conv\."


def _tower(found: re.Match[str]) -> str:
    return {"classification": "head.cls_subnet.", "regression": "head.bbox_subnet."}[found[1]]


def _layers(per_conv: int) -> Callable[[re.Match[str]], str]:
    """Return a replacement that numbers layers with `per_conv` of them for each convolution."""

    def replace(found: re.Match[str]) -> str:
        return f"{_tower(found)}{per_conv * int(found[2]) + int(found[3])}."

    return replace


def _by_size(tensor: Tensor, anchors: int) -> Tensor:
    """Reorder rows (anchors * n, ...) from ratios outermost to sizes outermost."""
    per_ratio = anchors // _RATIOS
    return tensor.unflatten(0, (_RATIOS, per_ratio, -1)).transpose(0, 1).flatten(0, 2)


def _without_first(tensor: Tensor, anchors: int) -> Tensor:
    """Drop the first class of every anchor from rows (anchors * classes, ...)."""
    return tensor.unflatten(0, (anchors, -1))[:, 1:].flatten(0, 1)


def _predictors(weights: Weights) -> dict[str, Tensor]:
    """Return the predictors for our order of anchors, and without class 0."""
    placed: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        scores = weights[f"head.classification_head.cls_logits.{kind}"]
        boxes = weights[f"head.regression_head.bbox_reg.{kind}"]
        anchors = len(boxes) // 4
        if anchors % _RATIOS == 0:
            scores, boxes = _by_size(scores, anchors), _by_size(boxes, anchors)
        placed |= {f"{_SCORES}{kind}": _without_first(scores, anchors), f"{_BOXES}{kind}": boxes}
    return placed


def _v2_parts(weights: Weights) -> dict[str, Tensor]:
    """Return the predictors, and zero biases for convolutions, which have none before a norm."""
    biases = {
        TORCHVISION_RETINANET_V2.rename(name).replace("weight", "bias"): torch.zeros(len(value))
        for name, value in weights.items()
        if re.fullmatch(_TOWER + r"\d\.0\.weight", name)
    }
    return _predictors(weights) | biases


def _select_coco(name: str, tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the rows of COCO's 80 classes where the file has 90 and the model 80."""
    rows = next(iter(tensor.shape), 0)
    anchors = rows // _CLASSES
    if name.startswith(_SCORES) and rows == anchors * _CLASSES and shape[0] == anchors * 80:
        return tensor.unflatten(0, (anchors, _CLASSES))[:, COCO_ROWS].flatten(0, 1)
    return tensor


def _is_dense(weights: Weights) -> bool:
    return has(
        weights,
        r"backbone\.body\.conv1\.weight",
        r"head\.classification_head\.cls_logits\.weight",
        r"head\.classification_head\.cls_logits\.bias",
        r"head\.regression_head\.bbox_reg\.weight",
        r"head\.regression_head\.bbox_reg\.bias",
    )


def _is_fcos(weights: Weights) -> bool:
    return _is_dense(weights) and "head.regression_head.bbox_ctrness.weight" in weights


def _is_v2(weights: Weights) -> bool:
    return _is_dense(weights) and "head.regression_head.conv.0.1.weight" in weights


def _computed(weights: Weights) -> dict[str, Tensor]:
    statistics = statistics_without_epsilon(weights, TORCHVISION_RETINANET.rename)
    return _predictors(weights) | statistics


def _expects(config: str) -> str:
    return f"{IMAGENET_RGB} and the rest of configs/rcnn/torchvision/{config}.yaml"


_SHARED = (*backbone_renamings(DENSE_FINEST), *_PREDICTORS)

TORCHVISION_RETINANET = Layout(
    name="torchvision RetinaNet",
    recognise=lambda weights: _is_dense(weights) and not _is_fcos(weights) and not _is_v2(weights),
    # Old files count a ReLU after each convolution, as Detectron2 does.
    renamings=(*_SHARED, (_TOWER + r"(\d)\.(0)\.", _layers(2)), (_TOWER, _tower)),
    computed=_computed,
    select_rows=_select_coco,
    expects=_expects("retinanet_r50_fpn"),
)

TORCHVISION_RETINANET_V2 = Layout(
    name="torchvision RetinaNet v2",
    recognise=_is_v2,
    renamings=(*_SHARED, (_TOWER + r"(\d)\.([01])\.", _layers(3))),
    computed=_v2_parts,
    select_rows=_select_coco,
    expects=_expects("retinanet_r50_fpn_v2"),
)

TORCHVISION_FCOS = Layout(
    name="torchvision FCOS",
    recognise=_is_fcos,
    renamings=(*_SHARED, (_TOWER, _tower)),
    computed=_predictors,
    select_rows=_select_coco,
    expects=_expects("fcos_r50_fpn"),
)
