"""Parts of DETR3D; importing this registers its models."""

from d2ext.projects.detr3d.modeling.detr3d import DETR3D
from d2ext.projects.detr3d.modeling.vovnet import VoVNet

__all__ = ["DETR3D", "VoVNet"]
