"""Parts of PointRend (Kirillov et al. 2020, arXiv:1912.08193) that packages import.

These are point sampling, the config and the colour augmentation, not the heads.
"""

from .color_augmentation import ColorAugSSDTransform
from .config import add_pointrend_config

__all__ = ["ColorAugSSDTransform", "add_pointrend_config"]
