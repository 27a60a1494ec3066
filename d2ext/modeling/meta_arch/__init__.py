"""Meta-architectures: complete models; importing this registers them."""

from d2ext.modeling.meta_arch.dense_detector import ATSS, FCOS, DenseDetector
from d2ext.modeling.meta_arch.detector import Detector, padding_mask
from d2ext.modeling.meta_arch.torchvision_dense import TorchvisionFCOS, TorchvisionRetinaNet

__all__ = [
    "ATSS",
    "FCOS",
    "DenseDetector",
    "Detector",
    "TorchvisionFCOS",
    "TorchvisionRetinaNet",
    "padding_mask",
]
