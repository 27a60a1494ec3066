"""An example plugin with one of each extension; docs/extending.md explains it file by file."""

from detectron2.config import CfgNode

from . import (  # noqa: F401  (each registers what it defines)
    backbone,
    data_format,
    dense_head,
    evaluator,
    exporter,
    layout,
    mapper,
    meta_arch,
    resnet_block,
)


def add_config(cfg: CfgNode) -> None:
    """Add the sections that the plugin reads, with documented defaults."""
    cfg.MODEL.STRIDED_CONVS = CfgNode()
    cfg.MODEL.STRIDED_CONVS.WIDTH = 32  # channels of every layer

    head = cfg.MODEL.CENTER_HEAD = CfgNode()
    head.NUM_CLASSES = 80  # set from the data unless a config names another
    head.IN_FEATURES = ["stride8"]
    head.SCORE_THRESH_TEST = 0.05
    head.TOPK_CANDIDATES_TEST = 100  # kept per level before NMS
    head.NMS_THRESH_TEST = 0.5  # IoU

    cfg.INPUT.INVERT = 0.0  # probability that a training image is inverted
