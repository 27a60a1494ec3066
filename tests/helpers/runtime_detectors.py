"""A small model of each meta-architecture, with deterministic weights."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import d2ext  # noqa: F401
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from tests.helpers.runtime_rcnn import tiny_model
from tests.helpers.weights import fill

SEMANTIC = {
    "MODEL__SEM_SEG_HEAD__NUM_CLASSES": 4,
    "MODEL__SEM_SEG_HEAD__CONVS_DIM": 32,
    "MODEL__SEM_SEG_HEAD__IN_FEATURES": ["p2", "p3", "p4", "p5"],
}
VARIANTS: dict[str, dict[str, Any]] = {
    "proposals": {"MODEL__META_ARCHITECTURE": "ProposalNetwork"},
    "faster": {},
    "masks": {"MODEL__MASK_ON": True},
    "keypoints": {"MODEL__KEYPOINT_ON": True},
    "cascade": {
        "MODEL__ROI_HEADS__NAME": "CascadeROIHeads",
        "MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True,
    },
    "c4": {
        "MODEL__MASK_ON": True,
        "MODEL__BACKBONE__NAME": "build_resnet_backbone",
        "MODEL__RESNETS__OUT_FEATURES": ["res4"],
        "MODEL__ROI_HEADS__NAME": "Res5ROIHeads",
        "MODEL__ROI_HEADS__IN_FEATURES": ["res4"],
        "MODEL__RPN__IN_FEATURES": ["res4"],
        "MODEL__ANCHOR_GENERATOR__SIZES": [[32, 64]],
    },
    "retinanet": {
        "MODEL__META_ARCHITECTURE": "RetinaNet",
        "MODEL__BACKBONE__NAME": "build_retinanet_resnet_fpn_backbone",
        "MODEL__RESNETS__OUT_FEATURES": ["res3", "res4", "res5"],
        "MODEL__FPN__IN_FEATURES": ["res3", "res4", "res5"],
        "MODEL__RETINANET__NUM_CLASSES": 3,
        "MODEL__RETINANET__NUM_CONVS": 1,
        "MODEL__RETINANET__TOPK_CANDIDATES_TEST": 50,
        "MODEL__RETINANET__SCORE_THRESH_TEST": 0.3,
    },
    "semantic": {"MODEL__META_ARCHITECTURE": "SemanticSegmentor", **SEMANTIC},
    "panoptic": {"MODEL__META_ARCHITECTURE": "PanopticFPN", "MODEL__MASK_ON": True, **SEMANTIC},
}

STRIDES = {"p3": 8, "p4": 16}


class Pooled(Backbone):
    """A convolution with its output at two strides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 8, stride=8)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        p3 = self.conv(x)
        return {"p3": p3, "p4": F.avg_pool2d(p3, 2)}

    @property
    def size_divisibility(self) -> int:
        return 16

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: ShapeSpec(channels=32, stride=stride) for name, stride in STRIDES.items()}


def fcos() -> nn.Module:
    backbone = Pooled()
    shapes = list(backbone.output_shape().values())
    head = FCOSHead(input_shape=shapes, conv_dims=[32], num_classes=3, norm="GN")
    statistics = {"pixel_mean": [103.0, 116.0, 123.0], "pixel_std": [57.0, 57.0, 57.0]}
    model = FCOS(backbone=backbone, head=head, num_classes=3, **statistics)
    fill(model)
    return model


def model_of(name: str) -> nn.Module:
    model = fcos() if name == "fcos" else tiny_model(**VARIANTS[name])
    return model.eval()
