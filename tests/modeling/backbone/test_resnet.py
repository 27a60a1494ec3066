"""ResNets of stems, blocks and stages by name."""

import pytest
import torch
from torch import Tensor, nn

import tests.example_plugin.resnet_block  # noqa: F401  (registers SEBlock)
from d2ext.config import get_cfg
from d2ext.errors import ConfigError
from d2ext.modeling.backbone import build_named_resnet_backbone, register_stages, resnet_parts
from d2ext.modeling.backbone.resnet import NamedRes5ROIHeads
from detectron2.config import CfgNode
from detectron2.layers import DeformConv, ModulatedDeformConv, ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone

IMAGES = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def config(**changes: object) -> CfgNode:
    """Return the config of a ResNet of an eighth of the width, all four stages."""
    cfg = get_cfg()
    resnet = cfg.MODEL.RESNETS
    resnet.STEM_OUT_CHANNELS, resnet.RES2_OUT_CHANNELS, resnet.WIDTH_PER_GROUP = 8, 32, 8
    resnet.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    for key, value in changes.items():
        setattr(resnet, key, value)
    return cfg


def build(cfg: CfgNode) -> nn.Module:
    torch.manual_seed(0)
    return build_named_resnet_backbone(cfg, ShapeSpec(channels=3))


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "changes",
    [
        {"NORM": "FrozenBN"},
        {"NORM": "GN", "STEM_OUT_CHANNELS": 32, "WIDTH_PER_GROUP": 32},
        {"NORM": "SyncBN"},
        {"STRIDE_IN_1X1": False, "NORM": "BN"},
        {"DEPTH": 101},
        {"DEPTH": 152},
        {"NUM_GROUPS": 4, "WIDTH_PER_GROUP": 2},
        {"RES5_DILATION": 2},
        {"DEFORM_ON_PER_STAGE": [False, True, True, True]},
        {"DEFORM_ON_PER_STAGE": [False, False, False, True], "DEFORM_MODULATED": True},
        {"DEFORM_ON_PER_STAGE": [False, False, True, True], "DEFORM_NUM_GROUPS": 2},
    ],
)
def test_every_variant_is_detectron2s_by_names_shapes_and_features(changes: dict) -> None:
    cfg = config(**changes)
    model, other = build(cfg).eval(), build_resnet_backbone(cfg, ShapeSpec(channels=3)).eval()
    assert shapes(model) == shapes(other)
    other.load_state_dict(model.state_dict())
    assert model.output_shape() == other.output_shape()
    if "SyncBN" not in changes.values():  # which runs on GPUs only
        with torch.no_grad():
            found, expected = model(IMAGES), other(IMAGES)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_basic_blocks_make_a_resnet_18() -> None:
    cfg = config(STAGES="R-18", BLOCK="BasicBlock", RES2_OUT_CHANNELS=8)
    model = build(cfg)
    assert [len(stage) for stage in model.stages] == [2, 2, 2, 2]
    assert model(IMAGES)["res5"].shape == (1, 64, 2, 3)


@pytest.mark.parametrize(("modulated", "layer"), [(False, DeformConv), (True, ModulatedDeformConv)])
def test_deformable_convolutions_are_in_the_stages_named(modulated: bool, layer: type) -> None:
    cfg = config(DEFORM_ON_PER_STAGE=[False, True, False, True], DEFORM_MODULATED=modulated)
    found = [any(isinstance(m, layer) for m in stage.modules()) for stage in build(cfg).stages]
    assert found == [False, True, False, True]


def test_frozen_stages_take_no_gradient() -> None:
    cfg = config(NORM="BN")
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    model = build(cfg)
    trainable = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {"res3", "res4", "res5"}


def test_stages_that_nothing_reads_are_not_built() -> None:
    assert not hasattr(build(config(OUT_FEATURES=["res4"])), "res5")


def test_a_block_of_a_users_file_is_chosen_by_name() -> None:
    model = build(config(BLOCK="SEBlock", STAGES="R-18", NORM="BN"))
    assert [name for name, _ in model.res2[0].named_children()] == ["conv", "shortcut", "gate"]
    features = model(IMAGES)
    assert features["res2"].shape == (1, 32, 16, 24)
    features["res5"].sum().backward()
    gradient: Tensor = model.res2[0].gate[1].weight.grad
    assert gradient.abs().sum() > 0


def test_a_list_of_stages_of_a_user_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnet_parts._STAGES, "_values", dict(resnet_parts._STAGES._values))
    register_stages("R-26", (2, 2, 2, 2))
    assert [len(stage) for stage in build(config(STAGES="R-26")).stages] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("key", "value", "near"),
    [
        ("STEM", "BasicStm", "BasicStem"),
        ("BLOCK", "BottleNeckBlock", "BottleneckBlock"),
        ("STAGES", "R50", "R-50"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(key: str, value: str, near: str) -> None:
    with pytest.raises(ConfigError, match=rf"MODEL.RESNETS.{key}.*did you mean {near}"):
        build(config(**{key: value}))


def test_an_unknown_feature_is_refused() -> None:
    with pytest.raises(ConfigError, match="OUT_FEATURES: 'res6'"):
        build(config(OUT_FEATURES=["res6"]))


def test_the_c4_head_has_the_named_blocks() -> None:
    cfg = config(BLOCK="SEBlock", STAGES="R-18", OUT_FEATURES=["res4"], NORM="BN")
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]
    head = NamedRes5ROIHeads(cfg, {"res4": ShapeSpec(channels=128, stride=16)})
    assert len(head.res5) == 2
    assert head.res5(torch.randn(2, 128, 14, 14)).shape == (2, 256, 7, 7)
