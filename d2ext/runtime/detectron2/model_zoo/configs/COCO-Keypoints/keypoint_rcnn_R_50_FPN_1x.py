"""Keypoint R-CNN R50-FPN on COCO, 1x schedule."""

from ..common.coco_schedule import lr_multiplier_1x as lr_multiplier  # noqa: F401
from ..common.data.coco_keypoint import dataloader  # noqa: F401
from ..common.models.keypoint_rcnn_fpn import model
from ..common.optim import SGD as optimizer  # noqa: F401
from ..common.train import train

train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
model.backbone.bottom_up.freeze_at = 2
