"""Detectors as wholes; importing this registers them."""

from d2ext.modeling.meta_arch.atss import ATSS
from d2ext.modeling.meta_arch.fcos import FCOS
from d2ext.modeling.meta_arch.one_stage import OneStageDetector

__all__ = ["ATSS", "FCOS", "OneStageDetector"]
