"""Freezing of the first stages of backbones other than ResNets."""

import pytest
import torch

import d2ext.modeling  # noqa: F401  (registers)
from d2ext.config import get_cfg
from d2ext.modeling.backbone.freezing import stages_to_freeze
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone


def timm_backbone(weights: str):
    cfg = get_cfg()
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 2  # Detectron2's default
    cfg.MODEL.WEIGHTS, cfg.MODEL.TIMM.NAME = weights, "regnetx_002"
    cfg.MODEL.BACKBONE.NAME = "TimmBackbone"
    cfg.MODEL.TIMM.OUT_FEATURES = ["stride4", "stride8"]
    return build_backbone(cfg, ShapeSpec(channels=3)).train()


def test_the_stem_and_the_first_stage_of_weights_are_frozen():
    backbone = timm_backbone("a.pth")
    learned = [name for name, p in backbone.named_parameters() if p.requires_grad]
    assert learned
    assert not [name for name in learned if "stem" in name or ".s1." in name]
    assert backbone.frozen
    assert not any(module.training for module in backbone.frozen)


def test_random_layers_are_not_frozen_by_the_default():
    backbone = timm_backbone("")
    assert all(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize(("freeze_at", "stages"), [(0, 0), (1, 0), (2, 1), (3, 2), (5, 4)])
def test_stages_are_counted_as_those_of_a_resnet(freeze_at, stages):
    assert stages_to_freeze([4, 8, 16, 32], freeze_at) == stages


def saved_for_backward(name: str, freeze_at: int) -> int:
    """Count the elements that a forward pass keeps for the gradients, parameters aside."""
    cfg = get_cfg()
    cfg.MODEL.WEIGHTS, cfg.MODEL.BACKBONE.NAME = "a.pth", name
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    cfg.MODEL.TIMM.NAME, cfg.MODEL.TIMM.OUT_FEATURES = "regnetx_002", ["stride4", "stride32"]
    cfg.MODEL.SWIN.EMBED_DIM, cfg.MODEL.SWIN.DEPTHS = 24, [1, 1, 1, 1]
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res5"]
    backbone = build_backbone(cfg, ShapeSpec(channels=3)).train()
    own = {parameter.data_ptr() for parameter in backbone.parameters()}
    kept = 0

    def pack(tensor):
        nonlocal kept
        kept += 0 if tensor.data_ptr() in own else tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        backbone(torch.rand(1, 3, 64, 64))
    return kept


@pytest.mark.parametrize("name", ["build_resnet_backbone", "SwinTransformer", "TimmBackbone"])
def test_frozen_layers_keep_nothing_for_gradients(name):
    kept = [saved_for_backward(name, freeze_at) for freeze_at in range(6)]
    assert kept[0] >= kept[1] > kept[2] > kept[3] > kept[4] > kept[5]
    # The first stages have most of the pixels, and the norms of Swin's outputs still learn.
    assert kept[2] < 0.7 * kept[0]
    assert kept[5] < 0.1 * kept[0]
