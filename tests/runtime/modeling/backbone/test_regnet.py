"""RegNet: state dict names and outputs match Detectron2."""

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone.regnet import (
    RegNet,
    ResBasicBlock,
    ResBottleneckBlock,
    ResStem,
    SimpleStem,
    VanillaBlock,
    adjust_block_compatibility,
    generate_regnet_parameters,
)
from tests.helpers.weights import fill, image


def regnet(**options: object) -> RegNet:
    return RegNet(stem_width=8, depth=5, w_a=12.0, w_0=16, w_m=2.5, group_width=8, **options)


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({"stem_class": ResStem, "block_class": VanillaBlock}, 31.163904190063477),
        ({"stem_class": ResStem, "block_class": ResBasicBlock}, 101.50272369384766),
        (
            {"stem_class": SimpleStem, "block_class": ResBottleneckBlock, "se_ratio": 0.25},
            250.4598388671875,
        ),
        (
            {"stem_class": SimpleStem, "block_class": ResBottleneckBlock, "bottleneck_ratio": 0.5},
            238.54971313476562,
        ),
    ],
)
@torch.no_grad()
def test_features_match_detectron2(options: dict, total: float):
    net = regnet(**options)
    fill(net)
    (features,) = net.eval()(image(0, 64, 96)[None] / 255).values()
    assert features.sum().item() == pytest.approx(total, rel=1e-4)


def test_state_dict_has_the_published_names_and_shapes():
    net = regnet(
        stem_class=SimpleStem,
        block_class=ResBottleneckBlock,
        se_ratio=0.25,
        out_features=["stem", "s1", "s2"],
    )
    weights = {name for name in net.state_dict() if name.startswith("s1.b1") and "_bn" not in name}
    assert {name for name in weights if name.endswith("weight")} == {
        f"s1.b1.{name}.weight"
        for name in ("proj", "bn", "f.a", "f.b", "f.se.f_ex.0", "f.se.f_ex.2", "f.c")
    }
    assert tuple(net.s1.b1.f.se.f_ex[0].weight.shape) == (2, 16, 1, 1)
    shapes = {name: (shape.channels, shape.stride) for name, shape in net.output_shape().items()}
    assert shapes == {"stem": (8, 2), "s1": (16, 4), "s2": (40, 8)}
    assert net.s1.b1.stride == 2


def test_frozen_stages_have_no_gradients_and_fixed_norms():
    net = regnet(stem_class=SimpleStem, block_class=ResBasicBlock, freeze_at=2)
    trained = {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {"s2", "s3"}
    assert isinstance(net.s1.b1.f.a_bn, FrozenBatchNorm2d)


def test_widths_of_regnetx_4gf_are_the_published_ones():
    widths, depths, *_ = generate_regnet_parameters(38.65, 96, 2.43, 23)
    assert depths == [2, 5, 14, 2]
    assert adjust_block_compatibility(widths, [1.0] * 4, [40] * 4)[0] == [80, 240, 560, 1360]


def test_impossible_widths_and_unknown_features_are_errors():
    with pytest.raises((ValueError, AssertionError)):
        generate_regnet_parameters(1.0, 15, 2.5, 4)
    with pytest.raises((ValueError, AssertionError)):
        regnet(stem_class=SimpleStem, block_class=VanillaBlock, out_features=["s9"])
