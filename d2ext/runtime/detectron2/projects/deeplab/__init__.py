"""DeepLabV3 (Chen et al. 2017, arXiv:1706.05587) and V3+ (2018, arXiv:1802.02611)."""

from .build_solver import build_lr_scheduler
from .config import add_deeplab_config
from .resnet import build_resnet_deeplab_backbone
from .semantic_seg import DeepLabV3Head, DeepLabV3PlusHead

__all__ = [
    "DeepLabV3Head",
    "DeepLabV3PlusHead",
    "add_deeplab_config",
    "build_lr_scheduler",
    "build_resnet_deeplab_backbone",
]
