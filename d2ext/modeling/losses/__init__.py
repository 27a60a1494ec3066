"""Parts of loss functions that several heads share."""

from d2ext.modeling.losses.centerness import centerness
from d2ext.modeling.losses.normalizer import mean_over_processes

__all__ = ["centerness", "mean_over_processes"]
