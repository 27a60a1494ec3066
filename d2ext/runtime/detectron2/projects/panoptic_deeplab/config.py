"""Config keys of Panoptic-DeepLab."""

from detectron2.config import CfgNode
from detectron2.projects.deeplab import add_deeplab_config


def add_panoptic_deeplab_config(cfg: CfgNode) -> None:
    """Add DeepLab's keys, those of the targets, the instance branch and the grouping."""
    add_deeplab_config(cfg)
    cfg.SOLVER.OPTIMIZER = "ADAM"

    targets = cfg.INPUT
    targets.GAUSSIAN_SIGMA = 10  # of a centre in the heatmap, in pixels
    targets.IGNORE_STUFF_IN_OFFSET = True
    targets.SMALL_INSTANCE_AREA = 4096  # in pixels
    targets.SMALL_INSTANCE_WEIGHT = 3  # of the semantic loss in smaller instances
    targets.IGNORE_CROWD_IN_SEMANTIC = False

    cfg.MODEL.SEM_SEG_HEAD.HEAD_CHANNELS = 256  # of the convolution before the predictor
    cfg.MODEL.SEM_SEG_HEAD.LOSS_TOP_K = 0.2  # part of the pixels, the hardest, that are learned

    instances = cfg.MODEL.INS_EMBED_HEAD = CfgNode()
    instances.NAME = "PanopticDeepLabInsEmbedHead"
    instances.IN_FEATURES = ["res2", "res3", "res5"]
    instances.PROJECT_FEATURES = ["res2", "res3"]
    instances.PROJECT_CHANNELS = [32, 64]
    instances.ASPP_CHANNELS = 256
    instances.ASPP_DILATIONS = [6, 12, 18]
    instances.ASPP_DROPOUT = 0.1
    instances.HEAD_CHANNELS = 32  # of the convolution before the predictor
    instances.CONVS_DIM = 128
    instances.COMMON_STRIDE = 4
    instances.NORM = "SyncBN"
    instances.CENTER_LOSS_WEIGHT = 200.0
    instances.OFFSET_LOSS_WEIGHT = 0.01

    panoptic = cfg.MODEL.PANOPTIC_DEEPLAB = CfgNode()
    panoptic.STUFF_AREA = 2048  # smaller regions of stuff become void, in pixels
    panoptic.CENTER_THRESHOLD = 0.1
    panoptic.NMS_KERNEL = 7
    panoptic.TOP_K_INSTANCE = 200
    panoptic.PREDICT_INSTANCES = True
    panoptic.USE_DEPTHWISE_SEPARABLE_CONV = False
    panoptic.SIZE_DIVISIBILITY = -1  # images are padded to a multiple of it; -1: the backbone's
    panoptic.BENCHMARK_NETWORK_SPEED = False  # leave the grouping out
