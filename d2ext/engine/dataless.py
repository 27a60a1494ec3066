"""Build the model of a config without a data set, as if it were trained on COCO."""

import numpy as np
from torch import nn

import d2ext.modeling  # noqa: F401 # registers the models
from d2ext.data import DatasetStats
from d2ext.engine.auto import COCO_KEYPOINTS, resolve_auto
from d2ext.engine.machine import Machine
from detectron2.config import CfgNode
from detectron2.modeling import build_model

# Enough for every `auto` value that changes a model's layers.
COCO_STATS = DatasetStats(
    class_names=("",) * 80,
    image_sizes=np.array([[640, 480]]),
    object_sizes=np.empty((0, 2)),
    object_images=np.empty(0, dtype=np.int64),
    class_counts=np.zeros(80, dtype=np.int64),
    empty_images=0,
    stuff_names=("",) * 54,
    num_keypoints=COCO_KEYPOINTS,
)


def build_model_without_data(cfg: CfgNode) -> nn.Module:
    """Build the model on the CPU without pretrained weights; `auto` values are those for COCO.

    Args:
        cfg: not changed.
    """
    cfg = cfg.clone()
    machine = Machine(device="cpu", processes=1, cores=1, bfloat16=False)
    resolve_auto(cfg, COCO_STATS, machine)
    cfg.MODEL.DEVICE, cfg.MODEL.TIMM.PRETRAINED = "cpu", False
    return build_model(cfg)
