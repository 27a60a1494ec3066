"""Box transforms between boxes and deltas from reference boxes, and box regression losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from fvcore.nn import giou_loss, smooth_l1_loss
from torch import Tensor
from torch.nn import functional as F

from detectron2.layers import cat, ciou_loss, diou_loss
from detectron2.structures import Boxes

__all__ = ["Box2BoxTransform", "Box2BoxTransformLinear", "Box2BoxTransformRotated"]

if TYPE_CHECKING:
    Weights = Sequence[float]
else:
    Weights = list[float]  # TorchScript needs a concrete type

# Of the published R-CNN models: sizes grow by a factor of 1000 / 16 at most.
_DEFAULT_SCALE_CLAMP = math.log(1000.0 / 16)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Convert (..., 4) XYXY to centres (..., 2) and sizes (..., 2)."""
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * size, size


def _divide_columns(deltas: Tensor, weights: Weights) -> Tensor:
    # Divide by numbers: a tensor of weights would bind a trace to its device.
    columns = [column / w for column, w in zip(deltas.unbind(-1), weights, strict=True)]
    return torch.stack(columns, dim=-1)


def _check_width(sizes: Tensor) -> None:
    if not torch.jit.is_tracing() and not bool((sizes[..., 0] > 0).all()):
        raise ValueError("source boxes of a box transform need a positive width")


class Box2BoxTransform:
    """The box transform of R-CNN: (dx, dy, dw, dh) (Girshick et al. 2014, arXiv:1311.2524).

    (dx, dy) is the shift of the centre in units of the reference's size, (dw, dh) the logarithm of
    the ratio of sizes.

    Args:
        weights: factors of the four deltas.
        scale_clamp: upper bound of dw and dh in `apply_deltas`.
    """

    def __init__(self, weights: Weights, scale_clamp: float = _DEFAULT_SCALE_CLAMP) -> None:
        self.weights = weights
        self.scale_clamp = scale_clamp

    @torch.jit.unused
    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Compute deltas (N, 4) from `src_boxes` (N, 4) to `target_boxes` (N, 4), all XYXY.

        Raises:
            ValueError: a source box has no width, so that deltas are not invertible.
        """
        source, source_size = _centre_and_size(src_boxes)
        target, target_size = _centre_and_size(target_boxes)
        _check_width(source_size)
        move, grow = source.new_tensor(self.weights).split(2)
        shift = move * (target - source) / source_size
        return torch.cat([shift, grow * (target_size / source_size).log()], dim=-1)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Apply deltas to boxes.

        Args:
            deltas: (N, 4 k): k sets per box.
            boxes: (N, 4) XYXY.

        Returns:
            (N, 4 k) float32 XYXY.
        """
        deltas = deltas.float().unflatten(1, (-1, 4))  # exp overflows in half precision
        deltas = _divide_columns(deltas, self.weights)
        centre, size = _centre_and_size(boxes.to(deltas.dtype)[:, None])
        centre = centre + deltas[..., :2] * size
        half = 0.5 * size * deltas[..., 2:].clamp(max=self.scale_clamp).exp()
        return torch.cat([centre - half, centre + half], dim=-1).flatten(1)


class Box2BoxTransformRotated:
    """The box transform for rotated boxes: (dx, dy, dw, dh, da) (arXiv:1703.01086).

    The first four are as in `Box2BoxTransform`, the shift along the axes of the image, not of the
    box; da is the difference of the angles in radians. Boxes are centre x and y, width, height in
    pixels, and degrees counter-clockwise.

    Boxes are centre x and y, width, height in pixels, and degrees counter-clockwise.

    Args:
        weights: factors of the five deltas.
        scale_clamp: upper bound of dw and dh in `apply_deltas`.
    """

    def __init__(self, weights: Weights, scale_clamp: float = _DEFAULT_SCALE_CLAMP) -> None:
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Compute deltas (N, 5) from `src_boxes` (N, 5) to `target_boxes` (N, 5).

        Raises:
            ValueError: a source box has no width, so that deltas are not invertible.
        """
        source, source_size, source_angle = src_boxes.split((2, 2, 1), dim=-1)
        target, target_size, target_angle = target_boxes.split((2, 2, 1), dim=-1)
        _check_width(source_size)
        shift = (target - source) / source_size
        turn = _wrap_degrees(target_angle - source_angle).deg2rad()
        deltas = torch.cat([shift, (target_size / source_size).log(), turn], dim=-1)
        return deltas * deltas.new_tensor(self.weights)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Apply deltas to boxes.

        Args:
            deltas: (N, 5 k): k sets per box.
            boxes: (N, 5).

        Returns:
            (N, 5 k), angles in [-180, 180).
        """
        deltas = deltas.unflatten(1, (-1, 5))
        deltas = _divide_columns(deltas, self.weights)
        shift, growth, turn = deltas.split((2, 2, 1), dim=-1)
        centre, size, angle = boxes.to(deltas.dtype)[:, None].split((2, 2, 1), dim=-1)
        moved = [
            centre + shift * size,
            size * growth.clamp(max=self.scale_clamp).exp(),
            _wrap_degrees(angle + turn.rad2deg()),
        ]
        return torch.cat(moved, dim=-1).flatten(1)


def _wrap_degrees(angles: Tensor) -> Tensor:
    # The remainder of `%` has the sign of the divisor, so that the result is in [-180, 180).
    return (angles + 180) % 360 - 180


class Box2BoxTransformLinear:
    """The box transform of FCOS (arXiv:1904.01355): distances from the centre to the four sides.

    Args:
        normalize_by_size: divide distances by the reference's width and height.
    """

    def __init__(self, normalize_by_size: bool = True) -> None:
        self.normalize_by_size = normalize_by_size

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Compute (N, 4) left, top, right, bottom; negative if the centre is outside the target."""
        centre, size = _centre_and_size(src_boxes)
        sides = torch.cat([centre - target_boxes[..., :2], target_boxes[..., 2:] - centre], dim=-1)
        return sides / size.repeat(1, 2) if self.normalize_by_size else sides

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Apply distances (N, 4), clamped at 0, to give (N, 4) float32 XYXY."""
        # Negative distances would give boxes of negative size.
        sides = F.relu(deltas.float())
        centre, size = _centre_and_size(boxes.to(sides.dtype))
        if self.normalize_by_size:
            sides = sides * size.repeat(1, 2)
        return torch.cat([centre - sides[..., :2], centre + sides[..., 2:]], dim=-1)


_IOU_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


def _dense_box_regression_loss(
    anchors: Sequence[Boxes | Tensor],
    box2box_transform: Box2BoxTransform | Box2BoxTransformRotated | Box2BoxTransformLinear,
    pred_anchor_deltas: list[Tensor],
    gt_boxes: Sequence[Tensor],
    fg_mask: Tensor,
    box_reg_loss_type: str = "smooth_l1",
    smooth_l1_beta: float = 0.0,
) -> Tensor:
    """Compute the summed box loss of the foreground anchors of a dense detector.

    Args:
        anchors: boxes per level, R in total.
        pred_anchor_deltas: (B, Ri, 4) per level.
        gt_boxes: per image, (R, 4) boxes to which the anchors are matched.
        fg_mask: (B, R) bool.
        box_reg_loss_type: "smooth_l1" on the deltas; "giou", "diou" or "ciou" on the boxes.
        smooth_l1_beta: threshold between the quadratic and the linear part of smooth L1.
    """
    all_anchors = cat([a.tensor if isinstance(a, Boxes) else a for a in anchors])
    deltas = cat(pred_anchor_deltas, dim=1)
    if box_reg_loss_type == "smooth_l1":
        # Deltas of all anchors are computed, also of background: a fixed shape, selected by the
        # mask.
        wanted = torch.stack([box2box_transform.get_deltas(all_anchors, gt) for gt in gt_boxes])
        return smooth_l1_loss(
            deltas[fg_mask], wanted[fg_mask], beta=smooth_l1_beta, reduction="sum"
        )
    if box_reg_loss_type not in _IOU_LOSSES:
        known = ", ".join(["smooth_l1", *_IOU_LOSSES])
        raise ValueError(f"no box loss named {box_reg_loss_type!r}; the known ones: {known}")
    boxes = torch.stack([box2box_transform.apply_deltas(d, all_anchors) for d in deltas])
    loss = _IOU_LOSSES[box_reg_loss_type]
    return loss(boxes[fg_mask], torch.stack(list(gt_boxes))[fg_mask], reduction="sum")
