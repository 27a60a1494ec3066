import pytest
import torch

from d2ext.errors import ConfigError
from d2ext.modeling.backbone import FPNBackbone
from detectron2.layers import ShapeSpec
from tests.helpers.models import tiny_config


def test_levels_p3_to_p7_on_a_swin():
    cfg = tiny_config()
    model = FPNBackbone(cfg, ShapeSpec(channels=3))
    levels = model(torch.randn(1, 3, 64, 96))
    sizes = {name: tuple(level.shape[1:]) for name, level in levels.items()}
    assert sizes == {
        "p3": (32, 8, 12),
        "p4": (32, 4, 6),
        "p5": (32, 2, 3),
        "p6": (32, 1, 2),
        "p7": (32, 1, 1),
    }
    assert [shape.stride for shape in model.output_shape().values()] == [8, 16, 32, 64, 128]


def test_levels_on_a_timm_backbone():
    cfg = tiny_config()
    cfg.MODEL.FPN.BOTTOM_UP = "TimmBackbone"
    cfg.MODEL.FPN.IN_FEATURES = ["stride8", "stride16", "stride32"]
    levels = FPNBackbone(cfg, ShapeSpec(channels=3))(torch.randn(1, 3, 64, 64))
    assert list(levels) == ["p3", "p4", "p5", "p6", "p7"]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_coarse_levels_start_from_the_pyramid_or_the_backbone(count):
    cfg = tiny_config()
    cfg.MODEL.FPN.TOP_LEVELS = count
    assert len(FPNBackbone(cfg, ShapeSpec(channels=3)).output_shape()) == 3 + count
    cfg.MODEL.FPN.TOP_FEATURE = "stage5"
    model = FPNBackbone(cfg, ShapeSpec(channels=3))
    assert list(model(torch.randn(1, 3, 64, 64))) == ["p3", "p4", "p5", "p6", "p7"][: 3 + count]
    if count:
        assert model.top_block.p6.in_channels == model.bottom_up.output_shape()["stage5"].channels


@pytest.mark.parametrize(("key", "value"), [("TOP_LEVELS", 3), ("TOP_FEATURE", "stage2")])
def test_coarse_levels_that_cannot_be_are_refused(key, value):
    cfg = tiny_config()
    cfg.MODEL.FPN[key] = value
    with pytest.raises(ConfigError, match=rf"MODEL\.FPN\.{key}: '?{value}'? is none of"):
        FPNBackbone(cfg, ShapeSpec(channels=3))


def test_unknown_bottom_up_names_the_key_and_the_nearest_name():
    cfg = tiny_config()
    cfg.MODEL.FPN.BOTTOM_UP = "SwinTransfomer"
    with pytest.raises(ConfigError, match=r"MODEL\.FPN\.BOTTOM_UP.*did you mean SwinTransformer"):
        FPNBackbone(cfg, ShapeSpec(channels=3))


def test_gradients_of_one_pixel_maps_are_finite_in_bfloat16():
    torch.manual_seed(0)
    model = FPNBackbone(tiny_config(), ShapeSpec(channels=3))
    images = torch.randn(1, 3, 32, 32)
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            model(images)["p7"].float().sum().backward()
        gradients.append(model.top_block.p7.weight.grad.clone())
    torch.testing.assert_close(*gradients, atol=0.05, rtol=0.05)
