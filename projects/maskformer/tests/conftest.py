"""Models of the project, small enough for tests."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from d2ext.config import load_config
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances

CONFIG = "projects/maskformer/configs/mask2former_regnetx200m_semantic.yaml"
BASE = [
    *("MODEL.DEVICE", "cpu"),
    *("MODEL.TIMM.NAME", "test_resnet"),
    *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "4"),
    *("MODEL.MASK_FORMER.NUM_CLASSES", "4"),
    *("MODEL.MASK_FORMER.NUM_QUERIES", "7"),
    *("MODEL.MASK_FORMER.CHANNELS", "64"),
    *("MODEL.MASK_FORMER.NUM_HEADS", "2"),
    *("MODEL.MASK_FORMER.FEEDFORWARD", "32"),
    *("MODEL.MASK_FORMER.DECODER_LAYERS", "3"),
    *("MODEL.MASK_FORMER.LOSS.NUM_POINTS", "64"),
    *("MODEL.MASK_FORMER.PIXEL_DECODER.ENCODER_LAYERS", "1"),
    *("MODEL.MASK_FORMER.PIXEL_DECODER.ENCODER_FEEDFORWARD", "32"),
    *("MODEL.MASK_FORMER.THING_IDS", "[0, 1]"),
]
PLAIN = ["MODEL.MASK_FORMER.PIXEL_DECODER.ENCODER_LAYERS", "0"]
VARIANTS: dict[str, list[str]] = {
    "maskformer": ["MODEL.META_ARCHITECTURE", "MaskFormer", *PLAIN],
    "maskformer_encoder": ["MODEL.META_ARCHITECTURE", "MaskFormer"],
    "mask2former": ["MODEL.META_ARCHITECTURE", "Mask2Former"],
    "per_pixel": ["MODEL.META_ARCHITECTURE", "PerPixelBaseline", *PLAIN],
    "per_pixel_plus": ["MODEL.META_ARCHITECTURE", "PerPixelBaselinePlus", *PLAIN],
}
ALL_TASKS = [
    *("MODEL.MASK_FORMER.TASK", "panoptic"),
    *("MODEL.MASK_FORMER.TEST.TASKS", "['semantic', 'instance', 'panoptic']"),
    *("MODEL.MASK_FORMER.TEST.OBJECT_THRESH", "0.1"),
    *("MODEL.MASK_FORMER.TEST.OVERLAP_THRESH", "0.1"),
]


@pytest.fixture
def build() -> Callable[..., Any]:
    """Build a variant with extra config options and random weights."""

    def build(variant: str, *options: str) -> Any:
        torch.manual_seed(0)
        return build_model(load_config(CONFIG, [*BASE, *VARIANTS[variant], *options]))

    return build


def some_images(*sizes: tuple[int, int]) -> list[dict]:
    """Return Detectron2's dicts with random images, semantic labels and instances."""
    generator = torch.Generator().manual_seed(1)
    batch = []
    for height, width in sizes:
        image = torch.randint(0, 256, (3, height, width), generator=generator).float()
        labels = torch.randint(0, 4, (height // 8, width // 8), generator=generator)
        labels = labels.repeat_interleave(8, 0).repeat_interleave(8, 1)
        labels[:8] = 255
        masks = torch.zeros(2, height, width, dtype=torch.bool)
        masks[0, :20, :30], masks[1, 10:, 20:] = True, True
        truth = Instances((height, width))
        truth.gt_masks, truth.gt_classes = BitMasks(masks), torch.tensor([1, 3])
        truth.gt_boxes = Boxes(torch.tensor([[0.0, 0, 30, 20], [20, 10, width, height]]))
        batch.append({"image": image, "sem_seg": labels, "instances": truth})
    return batch
