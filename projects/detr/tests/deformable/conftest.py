"""Models with deformable attention, small enough for tests."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from d2ext.config import load_config
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

BASE = [
    *("MODEL.DEVICE", "cpu"),
    *("MODEL.TIMM.NAME", "test_resnet"),
    *("MODEL.DETR.NUM_CLASSES", "3"),
    *("MODEL.DETR.NUM_QUERIES", "7"),
    *("MODEL.DETR.CHANNELS", "64"),
    *("MODEL.DETR.NUM_HEADS", "2"),
    *("MODEL.DETR.FEEDFORWARD", "32"),
    *("MODEL.DETR.ENCODER_LAYERS", "1"),
    *("MODEL.DETR.DECODER_LAYERS", "2"),
    *("MODEL.DETR.POSITION.HALF_PIXEL", "True"),
    *("TEST.DETECTIONS_PER_IMAGE", "10"),
]
VARIANTS: dict[str, list[str]] = {
    "deformable": ["MODEL.META_ARCHITECTURE", "DeformableDETR"],
    "refined": [
        *("MODEL.META_ARCHITECTURE", "DeformableDETR"),
        *("MODEL.DEFORMABLE_DETR.BOX_REFINEMENT", "True"),
    ],
    "two_stage": [
        *("MODEL.META_ARCHITECTURE", "DeformableDETR"),
        *("MODEL.DEFORMABLE_DETR.BOX_REFINEMENT", "True"),
        *("MODEL.DEFORMABLE_DETR.TWO_STAGE", "True"),
    ],
    "single_scale": [
        *("MODEL.META_ARCHITECTURE", "DeformableDETR"),
        *("MODEL.DETR.IN_FEATURES", "['stride32']"),
        *("MODEL.DEFORMABLE_DETR.NUM_LEVELS", "1"),
    ],
    "dab": [
        *("MODEL.META_ARCHITECTURE", "DABDeformableDETR"),
        *("MODEL.DEFORMABLE_DETR.BOX_REFINEMENT", "True"),
        *("MODEL.DAB_DETR.NUM_PATTERNS", "2"),
    ],
    "dino": ["MODEL.META_ARCHITECTURE", "DINO", "MODEL.DINO.DENOISING.NUM_QUERIES", "6"],
    "dino_4_levels": [
        *("MODEL.META_ARCHITECTURE", "DINO", "MODEL.DEFORMABLE_DETR.NUM_LEVELS", "4"),
        *("MODEL.DINO.SHARE_HEADS", "False"),
    ],
}


@pytest.fixture
def build() -> Callable[..., Any]:
    """Build a variant with extra config options and random weights that use every input."""

    def build(variant: str, *options: str) -> Any:
        torch.manual_seed(0)
        config = "projects/detr/configs/dino_regnetx200m.yaml"
        model = build_model(load_config(config, [*BASE, *VARIANTS[variant], *options]))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "sampling_offsets.weight" in name or "attention_weights.weight" in name:
                    parameter.normal_(std=0.3)
                if "bbox_embed" in name and ".layers.2." in name:
                    parameter.normal_(std=0.2)
        return model

    return build


@pytest.fixture
def some_image() -> Callable[..., dict[str, Any]]:
    """Return a random image with `count` boxes, in Detectron2's format."""

    def some_image(height: int, width: int, count: int = 0, seed: int = 0) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        corners = torch.rand(count, 2, 2, generator=generator) * torch.tensor([width, height])
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.cat((corners.amin(1), corners.amax(1) + 1), 1))
        instances.gt_classes = torch.randint(0, 3, (count,), generator=generator)
        image = torch.randint(0, 256, (3, height, width), generator=generator).float()
        return {"image": image, "instances": instances}

    return some_image
