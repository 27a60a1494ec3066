"""The models of the DETR family; importing this registers them."""

from d2ext.projects.detr.modeling.conditional_detr import ConditionalDETR
from d2ext.projects.detr.modeling.dab_deformable_detr import DABDeformableDETR
from d2ext.projects.detr.modeling.dab_detr import DABDETR
from d2ext.projects.detr.modeling.deformable_detr import DeformableDETR
from d2ext.projects.detr.modeling.detr import DETR
from d2ext.projects.detr.modeling.dilated_resnet import build_dilated_resnet_backbone
from d2ext.projects.detr.modeling.dino import DINO

__all__ = [
    "DABDETR",
    "DETR",
    "DINO",
    "ConditionalDETR",
    "DABDeformableDETR",
    "DeformableDETR",
    "build_dilated_resnet_backbone",
]
