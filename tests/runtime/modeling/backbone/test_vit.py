"""ViT and its simple feature pyramid: state dict names and outputs match Detectron2."""

import pytest
import torch

import d2ext  # noqa: F401
from d2ext._detectron2 import provider
from detectron2.modeling import MViT, SimpleFeaturePyramid, ViT, get_vit_lr_decay_rate
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.utils import get_rel_pos, window_partition, window_unpartition
from tests.helpers.weights import fill, image

WINDOWS = {
    "use_rel_pos": True,
    "window_size": 3,
    "window_block_indexes": (0,),
    "residual_block_indexes": (1,),
    "qkv_bias": False,
}


def vit(**options: object) -> ViT:
    net = ViT(img_size=64, patch_size=16, embed_dim=32, depth=2, num_heads=2, **options)
    fill(net)
    return net.eval()


@pytest.mark.parametrize(
    ("options", "total", "gradient"),
    [
        ({}, 2141.287, 131069.4),
        (WINDOWS, 2547.536, 103474.1),
        ({"use_abs_pos": False}, 2143.641, 130758.1),
    ],
)
def test_features_and_gradients_match_detectron2(options: dict, total: float, gradient: float):
    net = vit(**options)
    feature = net(image(0, 80, 112)[None] / 255)["last_feat"]
    assert feature.shape == (1, 32, 5, 7)
    assert feature.square().sum().item() == pytest.approx(total, rel=1e-4)
    feature.square().sum().backward()
    found = net.blocks[0].attn.qkv.weight.grad.abs().sum().item()
    assert found == pytest.approx(gradient, rel=1e-3)


@pytest.mark.skipif(provider() != "bundled", reason="the official one needs fairscale")
@pytest.mark.parametrize("kind", [ViT, MViT])
def test_activation_checkpointing_does_not_change_gradients(kind: type):
    options = {"img_size": 64, "embed_dim": 16, "depth": 4, "num_heads": 1}
    options |= {"last_block_indexes": (0, 1, 2, 3)} if kind is MViT else {}
    plain, saving = kind(**options), kind(**options, use_act_checkpoint=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.rand(1, 3, 64, 64)
    for name, feature in plain.train()(x).items():
        torch.testing.assert_close(saving.train()(x)[name], feature)


def test_state_dict_has_the_published_names_and_shapes():
    shapes = {name: tuple(value.shape) for name, value in vit(**WINDOWS).state_dict().items()}
    assert shapes["pos_embed"] == (1, 197, 32)
    assert shapes["blocks.0.attn.rel_pos_h"] == (5, 16)  # of a window
    assert shapes["blocks.1.attn.rel_pos_w"] == (7, 16)  # of the whole map
    assert shapes["blocks.1.residual.conv2.weight"] == (16, 16, 3, 3)
    assert "blocks.0.residual.conv2.weight" not in shapes
    assert "blocks.0.mlp.fc1.bias" in shapes


def test_a_residual_block_is_initialised_to_the_identity():
    net = ViT(img_size=32, embed_dim=8, depth=1, num_heads=1, residual_block_indexes=(0,))
    x = torch.rand(1, 8, 2, 2)
    assert torch.equal(net.blocks[0].residual(x), x)


@torch.no_grad()
def test_the_simple_feature_pyramid_matches_detectron2():
    net = SimpleFeaturePyramid(
        vit(),
        "last_feat",
        16,
        (4.0, 2.0, 1.0, 0.5),
        top_block=LastLevelMaxPool(),
        square_pad=64,
    )
    fill(net)
    features = net.eval()(image(0, 80, 112)[None] / 255)
    assert {name: tuple(f.shape[2:]) for name, f in features.items()} == {
        "p2": (20, 28), "p3": (10, 14), "p4": (5, 7), "p5": (2, 3), "p6": (1, 2),
    }  # fmt: skip
    total = sum(feature.square().sum() for feature in features.values())
    assert total.item() == pytest.approx(11826.39, rel=1e-4)
    assert net.padding_constraints["square_size"] == 64
    assert net.output_shape()["p6"].stride == 64
    names = {name for name in net.state_dict() if name.startswith("simfp_2") and "norm" not in name}
    assert names == {
        "simfp_2.0.weight", "simfp_2.0.bias", "simfp_2.1.weight", "simfp_2.1.bias",
        "simfp_2.3.weight", "simfp_2.3.bias", "simfp_2.4.weight", "simfp_2.5.weight",
    }  # fmt: skip


def test_window_unpartition_inverts_window_partition():
    x = torch.rand(2, 5, 7, 3)
    windows, padded = window_partition(x, 3)
    assert windows.shape == (2 * 2 * 3, 3, 3, 3)
    assert padded == (6, 9)
    assert torch.equal(windows[1], x[0, :3, 3:6])
    assert torch.equal(window_unpartition(windows, 3, padded, (5, 7)), x)


def test_relative_positions_are_in_steps_of_the_finer_map():
    embeddings = torch.arange(7.0)[:, None]
    assert get_rel_pos(4, 4, embeddings)[:, :, 0].tolist() == [
        [3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3],
    ]  # fmt: skip
    assert get_rel_pos(4, 2, embeddings)[:, :, 0].tolist() == [[2, 0], [3, 1], [4, 2], [5, 3]]


@pytest.mark.parametrize(
    ("name", "power"),
    [
        ("backbone.net.pos_embed", 5),
        ("backbone.net.patch_embed.proj.weight", 5),
        ("backbone.net.blocks.0.norm1.weight", 4),
        ("backbone.net.blocks.3.attn.qkv.weight", 1),
        ("backbone.net.blocks.1.residual.conv1.weight", 0),
        ("backbone.simfp_2.0.weight", 0),
        ("roi_heads.box_head.fc1.weight", 0),
    ],
)
def test_layer_wise_learning_rates_decay_towards_the_input(name: str, power: int):
    assert get_vit_lr_decay_rate(name, lr_decay_rate=0.5, num_layers=4) == 0.5**power
