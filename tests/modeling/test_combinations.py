"""Any backbone, with a pyramid or without, with a dynamic head or without, under any head."""

import pytest
import torch

from d2ext._detectron2 import provider
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from tests.helpers.models import HEADS, LEVELS, head_config, some_input

NARROW = ("STEM_OUT_CHANNELS", 16, "RES2_OUT_CHANNELS", 32, "WIDTH_PER_GROUP", 8)
RESNETS = {
    "ResNet-50, nothing frozen": ("DEPTH", 50, *NARROW, "NORM", "BN"),
    "ResNet-101, frozen norms": ("DEPTH", 101, *NARROW, "NORM", "FrozenBN"),
    "ResNet-152": ("DEPTH", 152, *NARROW),
    "ResNet-50, group norms": (
        *("DEPTH", 50, "STEM_OUT_CHANNELS", 32, "RES2_OUT_CHANNELS", 64),
        *("WIDTH_PER_GROUP", 32, "NORM", "GN", "STRIDE_IN_1X1", False),
    ),
    "ResNeXt-101": ("DEPTH", 101, *NARROW, "NUM_GROUPS", 4, "WIDTH_PER_GROUP", 4),
    "ResNet-50, deformable": (
        "DEPTH",
        50,
        *NARROW,
        "DEFORM_ON_PER_STAGE",
        [False, True, True, True],
    ),
    "ResNeXt-50, modulated": (
        *("DEPTH", 50, *NARROW, "NUM_GROUPS", 4, "WIDTH_PER_GROUP", 4),
        *("DEFORM_ON_PER_STAGE", [False, False, False, True], "DEFORM_MODULATED", True),
    ),
}
SWINS = {  # an eighth of the published channels
    "Swin-T": (12, [2, 2, 6, 2], [1, 2, 4, 8]),
    "Swin-S": (12, [2, 2, 18, 2], [1, 2, 4, 8]),
    "Swin-B": (16, [2, 2, 18, 2], [1, 2, 4, 8]),
    "Swin-L": (24, [2, 2, 18, 2], [2, 4, 8, 16]),
}


def set_resnet(cfg: CfgNode, options: tuple) -> None:
    """Keys and values of `MODEL.RESNETS`, by turns."""
    for key, value in zip(options[::2], options[1::2], strict=True):
        cfg.MODEL.RESNETS[key] = value


def train_a_step(cfg: CfgNode, without: tuple[str, ...] = ()) -> None:
    """Losses and gradients are finite; parts named in `without` may lack a gradient."""
    torch.manual_seed(0)
    model = build_model(cfg).train()
    with EventStorage():
        losses = model([some_input(64, 96, 3), some_input(60, 70, 2, seed=1)])
    assert losses
    assert all(loss.isfinite() for loss in losses.values()), losses
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not any(part in name for part in without):
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("name", RESNETS)
def test_resnets(name):
    if provider() == "official" and "DEFORM_ON_PER_STAGE" in RESNETS[name]:
        pytest.skip("it has no gradient of deformable convolution on the CPU")
    cfg = head_config("ATSS", LEVELS)
    cfg.MODEL.FPN.BOTTOM_UP, cfg.MODEL.BACKBONE.FREEZE_AT = "build_resnet_backbone", 0
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    set_resnet(cfg, RESNETS[name])
    train_a_step(cfg)


@pytest.mark.parametrize("name", SWINS)
def test_swins(name):
    cfg, swin = head_config("ATSS", LEVELS), SWINS[name]
    cfg.MODEL.SWIN.EMBED_DIM, cfg.MODEL.SWIN.DEPTHS, cfg.MODEL.SWIN.NUM_HEADS = swin
    cfg.MODEL.SWIN.DROP_PATH_RATE = 0.0
    train_a_step(cfg)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "regnetx_002", "convnext_atto"])
def test_timm_backbones(name):
    cfg = head_config("ATSS", LEVELS)
    cfg.MODEL.FPN.BOTTOM_UP, cfg.MODEL.TIMM.NAME = "TimmBackbone", name
    cfg.MODEL.FPN.IN_FEATURES = ["stride8", "stride16", "stride32"]
    train_a_step(cfg)


@pytest.mark.parametrize("dyhead", [True, False], ids=["DyHead", "plain"])
@pytest.mark.parametrize("head", HEADS)
def test_heads_on_a_pyramid(head, dyhead):
    cfg = head_config(head, LEVELS)
    if not dyhead:
        cfg.MODEL.BACKBONE.NAME = "FPNBackbone"
    train_a_step(cfg)


@pytest.mark.parametrize("dyhead", [True, False], ids=["DyHead", "plain"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("feature", ["res4", "res5"])
def test_heads_on_one_feature_of_a_backbone(feature, head, dyhead):
    cfg = head_config(head, [feature])
    set_resnet(cfg, NARROW)
    cfg.MODEL.RESNETS.OUT_FEATURES = [feature]
    cfg.MODEL.DYHEAD.BACKBONE = "build_resnet_backbone"
    if not dyhead:
        cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    train_a_step(cfg, without=(".coarser.", ".finer."))  # of neighbours that a lone level lacks


@pytest.mark.parametrize("dilation", [1, 2])
def test_faster_rcnn_of_c4_and_of_a_dilated_c5(dilation):
    feature = "res4" if dilation == 1 else "res5"
    cfg = head_config("GeneralizedRCNN", [feature])
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = [feature]
    cfg.MODEL.RESNETS.RES5_DILATION = dilation
    set_resnet(cfg, NARROW)
    if dilation == 1:
        cfg.MODEL.ROI_HEADS.NAME = "Res5ROIHeads"
    train_a_step(cfg)


@pytest.mark.parametrize("norm", ["", "GN", "BN"])
@pytest.mark.parametrize("loss", ["smooth_l1", "giou"])
def test_retinanet_with_norms_and_box_losses(loss, norm):
    cfg = head_config("RetinaNet", LEVELS)
    cfg.MODEL.FPN.OUT_CHANNELS = 64
    cfg.MODEL.RETINANET.NORM, cfg.MODEL.RETINANET.BBOX_REG_LOSS_TYPE = norm, loss
    train_a_step(cfg)
