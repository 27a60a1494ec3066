"""PointRend (Kirillov et al. 2020, arXiv:1912.08193): point sampling, heads and augmentation."""

from .color_augmentation import ColorAugSSDTransform
from .config import add_pointrend_config
from .mask_head import ImplicitPointRendMaskHead, PointRendMaskHead
from .roi_heads import PointRendROIHeads
from .semantic_seg import PointRendSemSegHead

__all__ = [
    "ColorAugSSDTransform",
    "ImplicitPointRendMaskHead",
    "PointRendMaskHead",
    "PointRendROIHeads",
    "PointRendSemSegHead",
    "add_pointrend_config",
]
