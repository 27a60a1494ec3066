"""Loss functions and parts of them that several models share."""

from d2ext.modeling.losses.centerness import centerness, ltrb_centerness
from d2ext.modeling.losses.focal_loss import dense_focal_loss
from d2ext.modeling.losses.ltrb import ltrb_iou
from d2ext.modeling.losses.prob_iou import prob_iou
from d2ext.modeling.losses.reduce_mean import reduce_mean
from d2ext.modeling.losses.rotated_iou import rotated_iou_loss

__all__ = [
    "centerness",
    "dense_focal_loss",
    "ltrb_centerness",
    "ltrb_iou",
    "prob_iou",
    "reduce_mean",
    "rotated_iou_loss",
]
