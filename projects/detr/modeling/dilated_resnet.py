"""ResNets with a dilated last stage, as torchvision and the DC5 models of DETR have them."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, ResNet, build_resnet_backbone


@BACKBONE_REGISTRY.register()
def build_dilated_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build a ResNet; the first block of a dilated res5 is not dilated.

    Detectron2 dilates all blocks of res5; torchvision leaves out the first one, and weights of
    DC5 models are trained with that. Needs `MODEL.RESNETS.RES5_DILATION` 2.
    """
    backbone = build_resnet_backbone(cfg, input_shape)
    first = backbone.res5[0].conv2
    first.dilation = first.padding = (1, 1)
    return backbone
