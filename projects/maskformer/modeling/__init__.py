"""The models of the project; importing this registers them."""

from d2ext.projects.maskformer.modeling.deep_stem import build_deep_stem_resnet_backbone
from d2ext.projects.maskformer.modeling.mask2former import Mask2Former
from d2ext.projects.maskformer.modeling.maskformer import MaskFormer
from d2ext.projects.maskformer.modeling.per_pixel import PerPixelBaseline, PerPixelBaselinePlus

__all__ = [
    "Mask2Former",
    "MaskFormer",
    "PerPixelBaseline",
    "PerPixelBaselinePlus",
    "build_deep_stem_resnet_backbone",
]
