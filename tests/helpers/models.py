"""Models and inputs small enough for tests."""

import torch

import d2ext.modeling  # noqa: F401
from d2ext.config import get_cfg
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances

HEADS = ("ATSS", "FCOS", "RetinaNet", "GeneralizedRCNN")
LEVELS = ["p3", "p4", "p5", "p6", "p7"]


def tiny_config() -> CfgNode:
    """ATSS with a dynamic head of one block on a Swin of four blocks, 16 to 32 channels wide."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "ATSS"
    cfg.MODEL.BACKBONE.NAME = "DyHead"
    cfg.MODEL.SWIN.EMBED_DIM = 16
    cfg.MODEL.SWIN.DEPTHS = [1, 1, 2, 1]
    cfg.MODEL.SWIN.NUM_HEADS = [1, 1, 2, 2]
    cfg.MODEL.FPN.IN_FEATURES = ["stage3", "stage4", "stage5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.DYHEAD.NUM_BLOCKS = 1
    cfg.MODEL.DYHEAD.SIZE_DIVISIBILITY = 32
    cfg.MODEL.ATSS.NUM_CLASSES = 3
    cfg.MODEL.ATSS.NUM_CONVS = 0
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[64], [128], [256], [512], [1024]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    cfg.MODEL.ANCHOR_GENERATOR.OFFSET = 0.5
    return cfg


def head_config(head: str, levels: list[str]) -> CfgNode:
    """One of `HEADS` for three classes on `levels`, with one convolution where it has some."""
    cfg = tiny_config()
    cfg.MODEL.META_ARCHITECTURE = head
    for section in (cfg.MODEL.ATSS, cfg.MODEL.FCOS, cfg.MODEL.RETINANET, cfg.MODEL.ROI_HEADS):
        section.NUM_CLASSES, section.IN_FEATURES = 3, levels
    cfg.MODEL.ATSS.NUM_CONVS = cfg.MODEL.RETINANET.NUM_CONVS = 1
    cfg.MODEL.ATSS.CHANNELS = cfg.MODEL.FCOS.CHANNELS = 64  # two a group of the norm
    cfg.MODEL.FCOS.NUM_CLS_CONVS = cfg.MODEL.FCOS.NUM_BOX_CONVS = 1
    cfg.MODEL.FCOS.SIZES_OF_INTEREST = [64, 128, 256, 512][: len(levels) - 1]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = cfg.MODEL.ANCHOR_GENERATOR.SIZES[: len(levels)]
    cfg.MODEL.RPN.IN_FEATURES = levels
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.IN_FEATURES = "StandardROIHeads", levels[:3]
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.NUM_FC = "FastRCNNConvFCHead", 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM, cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 16, 3
    return cfg


def some_input(height: int, width: int, count: int, num_classes: int = 3, seed: int = 0) -> dict:
    """A random image with `count` boxes, in Detectron2's format."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator) * torch.tensor([width, height])
    boxes = torch.cat((corners.amin(1), corners.amax(1) + 1), dim=1)
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.randint(0, num_classes, (count,), generator=generator)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    return {"image": image, "instances": instances, "height": height, "width": width}
