"""FCOS for rotated boxes: every cell predicts centre, size and direction of one box.

Source: Tian et al., 2019, arXiv:1904.01355 and 2020, arXiv:2006.09214. A direction is coded by
cosine and sine of twice its angle, which do not jump where a box's angle does (as in Yang et al.,
"Dense Label Encoding for Boundary Discontinuity Free Rotation Detection", 2020, arXiv:2011.09670,
by another code).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from d2ext.errors import ConfigError
from d2ext.modeling.dense_heads.fcos import FCOSHead, FCOSLoss
from d2ext.modeling.dense_heads.registry import DENSE_HEAD_REGISTRY
from d2ext.modeling.losses import prob_iou
from d2ext.modeling.matching import assign_rotated_fcos
from d2ext.ops import matched_iou_rotated
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.structures import Instances

LARGEST = 6.0  # of the logarithm of a side in strides


@dataclass
class RotatedFCOSPredictions:
    """Raw outputs over the levels, and the locations they refer to.

    Attributes:
        locations: per level, (L_l, 2) XY in pixels of the padded image.
        logits: per level, (B, L_l, classes).
        box_outputs: per level, (B, L_l, 6): offset of the centre in strides, logarithms of width
            and height in strides, cosine and sine of twice the angle, of any common scale.
        quality: per level, (B, L_l) logits.
    """

    locations: list[Tensor]
    logits: list[Tensor]
    box_outputs: list[Tensor]
    quality: list[Tensor]


@dataclass
class RotatedFCOSTargets:
    """What the locations of a batch learn.

    Attributes:
        positive: (B, L) bool.
        classes: (P,) int64, of the positive locations in order.
        points: (P, 2) their places in pixels.
        stride: (P, 1) their strides in pixels.
        boxes: (P, 5) their boxes, XYWHA in pixels and degrees.
    """

    positive: Tensor
    classes: Tensor
    points: Tensor
    stride: Tensor
    boxes: Tensor


def decode_rotated(points: Tensor, outputs: Tensor, stride: int | Tensor) -> Tensor:
    """Decode XYWHA boxes (..., 5) at points (..., 2) from outputs (..., 6).

    Args:
        stride: of the points, in pixels; a number or (..., 1).
    """
    offset, size, cos, sin = outputs.split((2, 2, 1, 1), dim=-1)
    angle = torch.atan2(sin, cos).rad2deg() / 2
    sides = size.clamp(max=LARGEST).exp() * stride
    return torch.cat((points + offset * stride, sides, angle), dim=-1)


class RotatedFCOSLoss(FCOSLoss):
    """The losses of rotated FCOS; the third output estimates the rotated IoU."""

    qualities: ClassVar[Sequence[str]] = ("iou",)
    box_losses: ClassVar[Sequence[str]] = ("linear_iou", "prob_iou")

    @torch.no_grad()
    def targets(self, locations: list[Tensor], instances: list[Instances]) -> RotatedFCOSTargets:
        points, stride = torch.cat(locations), self._stride_of_locations(locations)
        positive, parts = [], []
        for image in instances:
            boxes = image.gt_boxes.tensor
            matched = assign_rotated_fcos(
                locations, self.strides, self.ranges, boxes, self.center_radius
            )
            chosen = matched >= 0
            rows = matched[chosen]
            positive.append(chosen)
            parts.append((image.gt_classes[rows], points[chosen], stride[chosen], boxes[rows]))
        return RotatedFCOSTargets(
            torch.stack(positive), *(torch.cat(each) for each in zip(*parts, strict=True))
        )

    def _box_loss(self, outputs: Tensor, targets: Any, count: Tensor) -> tuple[Tensor, Tensor]:
        predicted = decode_rotated(targets.points, outputs, targets.stride)
        iou = matched_iou_rotated(predicted, targets.boxes)
        quality = prob_iou(predicted, targets.boxes) if self.box_loss == "prob_iou" else iou
        return (1 - quality).sum() / count, iou.detach()


@DENSE_HEAD_REGISTRY.register()
class RotatedFCOSHead(FCOSHead):
    """`FCOSHead` for rotated boxes, with the same arguments."""

    rotated: ClassVar[bool] = True
    box_outputs: ClassVar[int] = 6
    predictions: ClassVar[type] = RotatedFCOSPredictions

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Direction 0 of length 1 at first: around (0, 0) the angle would be noise.
        assert self.bbox_pred.bias is not None
        with torch.no_grad():
            self.bbox_pred.bias[4] = 1.0

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> dict[str, Any]:
        if not cfg.MODEL.DENSE_HEAD.ROTATED:
            raise ConfigError("MODEL.DENSE_HEAD.ROTATED: RotatedFCOSHead needs True")
        return super().from_config(cfg, input_shapes)

    @staticmethod
    def build_criterion(**options: Any) -> RotatedFCOSLoss:
        return RotatedFCOSLoss(**options)

    @staticmethod
    def activate_boxes(outputs: Tensor) -> Tensor:
        return outputs

    @staticmethod
    def decode_boxes(points: Tensor, outputs: Tensor, stride: int) -> Tensor:
        return decode_rotated(points, outputs, stride)
