"""Parts of loss functions that several heads share."""

from d2ext.modeling.losses.centerness import centerness, ltrb_centerness
from d2ext.modeling.losses.classes import class_loss
from d2ext.modeling.losses.ltrb import ltrb_iou
from d2ext.modeling.losses.normalizer import mean_over_processes
from d2ext.modeling.losses.rotated_iou import rotated_iou_loss

__all__ = [
    "centerness",
    "class_loss",
    "ltrb_centerness",
    "ltrb_iou",
    "mean_over_processes",
    "rotated_iou_loss",
]
