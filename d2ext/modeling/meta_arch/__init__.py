"""Meta-architectures: complete models; importing this registers them."""

from d2ext.modeling.meta_arch.dense_detector import ATSS, FCOS, DenseDetector
from d2ext.modeling.meta_arch.detector import Detector, padding_mask

__all__ = ["ATSS", "FCOS", "DenseDetector", "Detector", "padding_mask"]
