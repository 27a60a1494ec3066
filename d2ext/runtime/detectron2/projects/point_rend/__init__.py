"""What packages use of PointRend (Kirillov et al. 2020, arXiv:1912.08193): sampling at points,
its config and its colour augmentation. Its heads are not here."""

from .color_augmentation import ColorAugSSDTransform
from .config import add_pointrend_config

__all__ = ["ColorAugSSDTransform", "add_pointrend_config"]
