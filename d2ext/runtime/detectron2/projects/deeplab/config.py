"""Config keys of DeepLab."""

from detectron2.config import CfgNode


def add_deeplab_config(cfg: CfgNode) -> None:
    """Add the keys of the head, the dilated ResNet, the crop and the polynomial schedule."""
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0  # 1: crops are not tried again

    solver = cfg.SOLVER
    solver.POLY_LR_POWER = 0.9
    solver.POLY_LR_CONSTANT_ENDING = 0.0  # the least learning rate, in multiples of the first

    head = cfg.MODEL.SEM_SEG_HEAD
    head.LOSS_TYPE = "hard_pixel_mining"  # or cross_entropy
    head.PROJECT_FEATURES = ["res2"]  # features that the decoder adds
    head.PROJECT_CHANNELS = [48]  # channels of each of them in the decoder
    head.ASPP_CHANNELS = 256
    head.ASPP_DILATIONS = [6, 12, 18]
    head.ASPP_DROPOUT = 0.1
    head.USE_DEPTHWISE_SEPARABLE_CONV = False

    resnet = cfg.MODEL.RESNETS
    resnet.STEM_TYPE = "deeplab"  # or basic
    resnet.RES4_DILATION = 1
    resnet.RES5_MULTI_GRID = [1, 2, 4]  # multiplies RES5_DILATION, block by block
