"""ResNet and FPN: names, shapes, freezing."""

import pytest
import torch
from torch import nn

import d2ext  # noqa: F401
from d2ext._detectron2 import provider
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone, ResNet, build_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from detectron2.modeling.backbone.resnet import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
)


def tiny_resnet(**options) -> ResNet:
    stages = [
        ResNet.make_stage(BasicBlock, 1, in_channels=4, out_channels=8, stride_per_block=[1]),
        ResNet.make_stage(BasicBlock, 2, in_channels=8, out_channels=16, stride_per_block=[2, 1]),
    ]
    return ResNet(BasicStem(3, 4), stages, **options)


def resnet18_config() -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    return cfg


def test_a_stage_has_the_stride_of_its_blocks():
    net = tiny_resnet(out_features=["stem", "res2", "res3"])
    shapes = net.output_shape()
    assert [(s.channels, s.stride) for s in shapes.values()] == [(4, 4), (8, 4), (16, 8)]
    features = net(torch.zeros(1, 3, 32, 48))
    assert {k: tuple(v.shape[1:]) for k, v in features.items()} == {
        "stem": (4, 8, 12),
        "res2": (8, 8, 12),
        "res3": (16, 4, 6),
    }


def test_stages_beyond_the_last_feature_are_not_built():
    names = {name.split(".")[0] for name, _ in tiny_resnet(out_features=["res2"]).named_modules()}
    assert names == {"", "stem", "res2"}


def test_num_classes_adds_a_classifier_on_the_last_stage():
    net = tiny_resnet(num_classes=5)
    assert net(torch.zeros(2, 3, 32, 32))["linear"].shape == (2, 5)


def test_per_block_options_differ_and_others_are_shared():
    blocks = ResNet.make_stage(
        BottleneckBlock,
        2,
        in_channels=4,
        out_channels=8,
        bottleneck_channels=2,
        dilation_per_block=[1, 2],
    )
    assert [b.conv2.dilation for b in blocks] == [(1, 1), (2, 2)]
    assert [b.shortcut is None for b in blocks] == [False, True]


@pytest.mark.parametrize(("in_1x1", "strides"), [(True, [2, 1]), (False, [1, 2])])
def test_stride_in_1x1_moves_the_stride_of_a_bottleneck(in_1x1: bool, strides: list[int]):
    block = BottleneckBlock(4, 8, bottleneck_channels=2, stride=2, stride_in_1x1=in_1x1)
    assert [block.conv1.stride[0], block.conv2.stride[0]] == strides


def test_the_default_stages_have_the_published_depths():
    stages = ResNet.make_default_stages(50)
    assert [len(stage) for stage in stages] == [3, 4, 6, 3]
    assert [stage[0].conv2.out_channels for stage in stages] == [64, 128, 256, 512]
    assert sum(len(stage) for stage in ResNet.make_default_stages(18)) == 8


@pytest.mark.skipif(provider() == "official", reason="the official one has no CPU kernels")
def test_a_deformable_block_is_initialised_as_an_ordinary_one():
    block = DeformBottleneckBlock(4, 4, bottleneck_channels=4, deform_modulated=True, norm="")
    plain = BottleneckBlock(4, 4, bottleneck_channels=4, norm="")
    state = {k: v for k, v in block.state_dict().items() if "offset" not in k}
    state["conv2.weight"] = state["conv2.weight"] / 2  # the sigmoid of nothing
    plain.load_state_dict(state)
    x = torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(block(x), plain(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("modulated", [False, True])
def test_a_deformable_block_has_the_published_names(modulated: bool):
    block = DeformBottleneckBlock(
        4, 8, bottleneck_channels=4, deform_modulated=modulated, deform_num_groups=2
    )
    shapes = {k: tuple(v.shape) for k, v in block.state_dict().items() if "conv2" in k}
    assert shapes["conv2_offset.weight"] == (54 if modulated else 36, 4, 3, 3)
    assert shapes["conv2.weight"] == (4, 4, 3, 3)
    assert "conv2.norm.weight" in shapes


def test_the_config_freezes_the_first_stages():
    cfg = resnet18_config()
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    net = build_backbone(cfg)
    trained = {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {"res3", "res4", "res5"}
    assert isinstance(net.res2[0].conv1.norm, FrozenBatchNorm2d)
    assert isinstance(net.res3[0].conv1.norm, nn.BatchNorm2d)


def test_a_dilated_last_stage_keeps_the_stride_of_the_previous_one():
    cfg = get_cfg()
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res4", "res5"]
    cfg.MODEL.RESNETS.RES5_DILATION = 2
    shapes = build_backbone(cfg).output_shape()
    assert {k: v.stride for k, v in shapes.items()} == {"res4": 16, "res5": 16}


def test_shallow_resnets_refuse_options_of_deep_ones():
    cfg = resnet18_config()
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 256
    with pytest.raises((ValueError, AssertionError), match="64"):
        build_backbone(cfg)


def test_a_pyramid_on_a_resnet_has_the_published_names_and_levels():
    cfg = resnet18_config()
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    net = build_backbone(cfg)
    names = {name for name, _ in net.named_children()}
    levels = {f"fpn_{kind}{level}" for kind in ("lateral", "output") for level in (3, 4, 5)}
    assert names == levels | {"bottom_up", "top_block"}
    assert net.top_block.in_feature == "res5"
    assert (net.size_divisibility, net.padding_constraints) == (32, {"square_size": 0})
    features = net(torch.zeros(1, 3, 64, 64))
    assert {k: v.shape[-1] for k, v in features.items()} == {
        "p3": 8, "p4": 4, "p5": 2, "p6": 1, "p7": 1,
    }  # fmt: skip
    assert all(shape.channels == 16 for shape in net.output_shape().values())


def test_the_fpn_backbone_ends_in_a_pooled_level():
    cfg = resnet18_config()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    net = build_backbone(cfg)
    features = net(torch.rand(1, 3, 128, 128))
    assert list(features) == ["p3", "p4", "p5", "p6"]
    assert torch.equal(features["p6"], features["p5"][:, :, ::2, ::2])


class Constants(Backbone):
    """Two features of constant value."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"a": x.new_full((1, 1, 4, 4), 1.0), "b": x.new_full((1, 1, 2, 2), 2.0)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"a": ShapeSpec(channels=1, stride=8), "b": ShapeSpec(channels=1, stride=16)}


@pytest.mark.parametrize(("fuse", "finest"), [("sum", 3.0), ("avg", 1.5)])
def test_fpn_fuses_levels_top_down(fuse: str, finest: float):
    net = FPN(Constants(), ["a", "b"], 1, fuse_type=fuse, square_pad=64)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.zero_()
            if name.endswith("weight"):
                p[0, 0, p.shape[2] // 2, p.shape[3] // 2] = 1
    features = net(torch.zeros(1, 3, 32, 32))
    assert features["p4"].unique().tolist() == [2]
    assert features["p3"].unique().tolist() == [finest]
    assert net.padding_constraints == {"square_size": 64}


def test_fpn_strides_must_double():
    with pytest.raises((ValueError, AssertionError)):
        FPN(Constants(), ["a", "a"], 1)


def test_p7_is_computed_from_p6_after_a_relu():
    block = LastLevelP6P7(1, 1, in_feature="p5")
    with torch.no_grad():
        for p in block.parameters():
            p.fill_(-1.0)
    p6, p7 = block(torch.ones(1, 1, 4, 4))
    assert p6.max() < 0
    assert p7.unique().tolist() == [-1]  # the bias alone
    assert (block.num_levels, LastLevelMaxPool().num_levels) == (2, 1)


def test_a_registered_backbone_is_built_by_name_with_the_image_channels():
    @BACKBONE_REGISTRY.register()
    def constants_for_a_test(cfg, input_shape):
        assert input_shape.channels == 3
        return Constants()

    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "constants_for_a_test"
    net = build_backbone(cfg)
    assert isinstance(net, Constants)
    assert (net.size_divisibility, net.padding_constraints) == (0, {})


@pytest.mark.skipif(provider() == "official", reason="the official one patches torch for it")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_pyramid_on_a_resnet_can_be_scripted():
    cfg = resnet18_config()
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    net = build_backbone(cfg).eval()
    x = torch.rand(1, 3, 64, 64)
    scripted = torch.jit.script(net)(x)
    for name, feature in net(x).items():
        torch.testing.assert_close(scripted[name], feature)
