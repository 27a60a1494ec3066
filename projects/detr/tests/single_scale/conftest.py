"""DETR, Conditional DETR and DAB-DETR, small enough for tests."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from d2ext.config import load_config
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances

BASE = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""),
    *("MODEL.BACKBONE.NAME", "TimmBackbone", "MODEL.TIMM.NAME", "test_resnet"),
    *("MODEL.DETR.IN_FEATURES", "['stride32']"),
    *("MODEL.DETR.MASK_HEAD.IN_FEATURES", "['stride16', 'stride8', 'stride4']"),
    *("MODEL.DETR.NUM_CLASSES", "3"),
    *("MODEL.DETR.NUM_QUERIES", "7"),
    *("MODEL.DETR.CHANNELS", "128"),
    *("MODEL.DETR.FEEDFORWARD", "64"),
    *("MODEL.DETR.ENCODER_LAYERS", "1"),
    *("MODEL.DETR.DECODER_LAYERS", "2"),
    *("TEST.DETECTIONS_PER_IMAGE", "10"),
]
FOCAL = ["MODEL.DETR.LOSS.CLASSIFICATION", "focal"]
VARIANTS: dict[str, list[str]] = {
    "detr": ["MODEL.META_ARCHITECTURE", "DETR"],
    "detr_pre_norm": ["MODEL.META_ARCHITECTURE", "DETR", "MODEL.DETR.PRE_NORM", "True"],
    "detr_masks": ["MODEL.META_ARCHITECTURE", "DETR", "MODEL.MASK_ON", "True"],
    "conditional": ["MODEL.META_ARCHITECTURE", "ConditionalDETR", *FOCAL],
    "dab": ["MODEL.META_ARCHITECTURE", "DABDETR", "MODEL.DETR.ACTIVATION", "prelu", *FOCAL],
    "dab_3_patterns": [
        *("MODEL.META_ARCHITECTURE", "DABDETR"),
        *("MODEL.DAB_DETR.NUM_PATTERNS", "3"),
        *FOCAL,
    ],
}


@pytest.fixture
def config() -> Callable[..., CfgNode]:
    """Return the config of a variant with extra options."""

    def config(variant: str, *options: str) -> CfgNode:
        path = "projects/detr/configs/detr_r50_finetune.yaml"
        return load_config(path, [*BASE, *VARIANTS[variant], *options])

    return config


@pytest.fixture
def build(config: Callable[..., CfgNode]) -> Callable[..., Any]:
    """Build a variant with random weights; the box head, which starts at zero, is random too."""

    def build(variant: str, *options: str) -> Any:
        torch.manual_seed(0)
        model = build_model(config(variant, *options))
        torch.nn.init.normal_(model.bbox_embed.layers[-1].weight, std=0.2)
        return model

    return build


@pytest.fixture
def some_image() -> Callable[..., dict[str, Any]]:
    """Return a random image with `count` boxes and masks, in Detectron2's format."""

    def some_image(height: int, width: int, count: int = 0, seed: int = 0) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        corners = torch.rand(count, 2, 2, generator=generator) * torch.tensor([width, height])
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.cat((corners.amin(1), corners.amax(1) + 1), 1))
        instances.gt_classes = torch.randint(0, 3, (count,), generator=generator)
        instances.gt_masks = BitMasks(torch.rand(count, height, width, generator=generator) > 0.5)
        image = torch.randint(0, 256, (3, height, width), generator=generator).float()
        return {"image": image, "instances": instances, "file_name": f"{seed}.jpg"}

    return some_image
