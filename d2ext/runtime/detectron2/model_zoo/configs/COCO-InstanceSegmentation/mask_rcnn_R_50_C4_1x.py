"""Mask R-CNN R50-C4 on COCO, 1x schedule."""

from ..common.coco_schedule import lr_multiplier_1x as lr_multiplier  # noqa: F401
from ..common.data.coco import dataloader  # noqa: F401
from ..common.models.mask_rcnn_c4 import model
from ..common.optim import SGD as optimizer  # noqa: F401
from ..common.train import train

train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
model.backbone.freeze_at = 2
