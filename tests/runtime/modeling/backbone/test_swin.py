"""Swin Transformer: state dict names and outputs match Detectron2."""

import pytest
import torch

import d2ext  # noqa: F401
from d2ext._detectron2 import provider
from detectron2.modeling import SwinTransformer
from tests.helpers.weights import fill, image


def swin(**options: object) -> SwinTransformer:
    shape = {"depths": (1, 2, 2), "num_heads": (1, 2, 4), "out_indices": (0, 1, 2)}
    return SwinTransformer(embed_dim=16, **{"window_size": 4, **shape, **options})


@pytest.mark.parametrize(
    ("options", "total", "gradient"),
    [
        ({}, 830.5895, 53616.58),
        (
            {"ape": True, "pretrain_img_size": 32, "qkv_bias": False, "patch_norm": False},
            742.9332,
            51365.72,
        ),
        ({"qk_scale": 0.3, "frozen_stages": 2}, 825.3824, 54012.69),
    ],
)
def test_features_and_gradients_match_detectron2(options: dict, total: float, gradient: float):
    net = swin(**options)
    fill(net)
    features = net.eval()(image(0, 93, 130)[None] / 255)
    assert {name: tuple(f.shape[1:]) for name, f in features.items()} == {
        "p0": (16, 24, 33), "p1": (32, 12, 17), "p2": (64, 6, 9),
    }  # fmt: skip
    loss = sum((feature * feature.cos()).sum() for feature in features.values())
    assert loss.item() == pytest.approx(total, rel=1e-4)
    loss.backward()
    found = net.layers[1].blocks[1].attn.qkv.weight.grad.abs().sum().item()
    assert found == pytest.approx(gradient, rel=1e-3)


def test_state_dict_has_the_published_names_and_shapes():
    net = swin(out_indices=(1,), ape=True, pretrain_img_size=32)
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert shapes["absolute_pos_embed"] == (1, 16, 8, 8)
    assert shapes["layers.0.blocks.0.attn.relative_position_bias_table"] == (49, 1)
    assert shapes["layers.0.blocks.0.attn.relative_position_index"] == (16, 16)
    assert shapes["layers.0.downsample.reduction.weight"] == (32, 64)
    assert "layers.2.downsample.reduction.weight" not in shapes
    assert {name for name in shapes if name.startswith("norm")} == {"norm1.weight", "norm1.bias"}
    assert net.output_shape()["p1"].stride == 8


def test_the_relative_position_index_counts_rows_and_columns():
    index = swin(window_size=2).layers[0].blocks[0].attn.relative_position_index
    assert index.tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


@pytest.mark.parametrize(
    ("frozen_stages", "frozen"),
    [
        (-1, set()),
        (0, {"patch_embed"}),
        (1, {"patch_embed", "absolute_pos_embed"}),
        (2, {"patch_embed", "absolute_pos_embed", "layers.0"}),
    ],
)
def test_frozen_stages_are_not_trained(frozen_stages: int, frozen: set[str]):
    net = swin(frozen_stages=frozen_stages, ape=True, pretrain_img_size=32)
    names = {name for name, p in net.named_parameters() if not p.requires_grad}
    found = {
        ".".join(n.split(".")[:2]) if n.startswith("layers") else n.split(".")[0] for n in names
    }
    assert found == frozen


def test_gradient_checkpointing_does_not_change_gradients():
    torch.manual_seed(0)
    plain, saving = swin(drop_path_rate=0.0), swin(drop_path_rate=0.0, use_checkpoint=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.rand(1, 3, 32, 32)
    for name, feature in plain.train()(x).items():
        torch.testing.assert_close(saving.train()(x)[name], feature)


@pytest.mark.skipif(provider() != "bundled", reason="the official one raises AttributeError")
def test_images_are_padded_to_the_coarsest_stride():
    assert swin().size_divisibility == 32
