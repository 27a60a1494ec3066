"""Every detector trains on what data sets hold: tiny, huge, many or no boxes, any image size."""

import pytest
import torch
from torch import nn

from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from tests.helpers.models import HEADS, LEVELS, head_config, some_input

MODELS = [f"{neck}{head}" for head in HEADS for neck in ("DyHead on ", "")]


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    cfg = head_config(name.split()[-1], LEVELS)
    cfg.MODEL.ATSS.NUM_CONVS = 0 if name.startswith("DyHead") else 1
    if not name.startswith("DyHead"):
        cfg.MODEL.BACKBONE.NAME = "FPNBackbone"
    if name.endswith("RetinaNet"):
        cfg.MODEL.RETINANET.NORM, cfg.MODEL.RETINANET.BBOX_REG_LOSS_TYPE = "GN", "giou"
        cfg.MODEL.FPN.OUT_CHANNELS = 64  # two a group of the norm
    return build_model(cfg)


def losses_of(model: nn.Module, image: dict) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)  # of sampled regions
    with EventStorage():
        return model.train()([image])


def check(model: nn.Module, image: dict) -> None:
    losses = losses_of(model, image)
    assert all(loss.isfinite() for loss in losses.values()), losses
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def with_boxes(boxes: list[list[float]]) -> dict:
    image = some_input(64, 96, 0)
    image["instances"] = Instances((64, 96))
    image["instances"].gt_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    image["instances"].gt_classes = torch.arange(len(boxes)) % 3
    return image


@pytest.mark.parametrize("name", MODELS)
def test_tiny_whole_very_many_and_no_boxes(name):
    model = build(name)
    many = some_input(64, 96, 500)["instances"].gt_boxes.tensor.tolist()
    for boxes in ([[10, 10, 11, 11]], [[0, 0, 96, 64]], many, []):
        check(model, with_boxes(boxes))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 32), (2000, 3000)])
@pytest.mark.parametrize("name", MODELS)
def test_smallest_and_largest_images(name, size):
    check(build(name), some_input(*size, 3))


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_is_finite_and_close(name):
    model, image = build(name), some_input(64, 96, 3)
    exact = sum(losses_of(model, image).values())
    with torch.autocast("cpu", torch.bfloat16):
        check(model, image)
        rounded = sum(losses_of(model, image).values())
    torch.testing.assert_close(rounded.float(), exact, rtol=0.1, atol=0.1)
