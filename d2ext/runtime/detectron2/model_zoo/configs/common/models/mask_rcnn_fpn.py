"""Mask R-CNN on a feature pyramid."""

from detectron2.config import LazyCall
from detectron2.modeling import GeneralizedRCNN

from ..data.constants import constants  # noqa: F401  (part of the config)
from .parts import mask_branch, pixels, pyramid_roi_heads, pyramid_rpn, resnet_fpn

model = LazyCall(GeneralizedRCNN)(
    backbone=resnet_fpn(),
    proposal_generator=pyramid_rpn(),
    roi_heads=pyramid_roi_heads(**mask_branch()),
    **pixels(),
)
