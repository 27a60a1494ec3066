"""MViT: state dict names and outputs match Detectron2."""

import pytest

import d2ext  # noqa: F401
from detectron2.modeling import MViT
from tests.helpers.weights import fill, image

LAST = (1, 3, 4, 5)  # so the fourth stage has one block


def mvit(**options: object) -> MViT:
    return MViT(img_size=64, embed_dim=8, depth=6, last_block_indexes=LAST, **options)


@pytest.mark.parametrize(
    ("options", "total", "gradient"),
    [
        ({"adaptive_window_size": 8}, 250.6142, 445366.4),
        ({"use_abs_pos": True, "qkv_pool_kernel": (5, 5), "qkv_bias": False}, -375.104, 503123.6),
        (
            {"residual_pooling": False, "use_rel_pos": False},
            919.4454,
            685017.8,
        ),
    ],
)
def test_features_and_gradients_match_detectron2(options: dict, total: float, gradient: float):
    net = mvit(**options)
    fill(net)
    features = net.eval()(image(0, 96, 128)[None] / 255)
    assert {name: tuple(f.shape[1:]) for name, f in features.items()} == {
        "scale2": (8, 24, 32), "scale3": (16, 12, 16), "scale4": (32, 6, 8), "scale5": (64, 3, 4),
    }  # fmt: skip
    loss = sum((feature * feature.cos()).sum() for feature in features.values())
    assert loss.item() == pytest.approx(total, rel=1e-4)
    loss.backward()
    found = net.patch_embed.proj.weight.grad.abs().sum().item()
    assert found == pytest.approx(gradient, rel=1e-3)


def test_each_stage_has_its_strides_windows_and_heads():
    net = mvit(adaptive_window_size=16)
    facts = [
        (
            block.attn.num_heads,
            block.attn.pool_q.stride[0],
            block.attn.pool_k.stride[0],
            block.attn.window_size,
        )
        for block in net.blocks
    ]
    assert facts == [
        (1, 1, 4, 16), (1, 1, 4, 16), (2, 2, 2, 16), (2, 1, 4, 0), (4, 2, 2, 0), (8, 2, 1, 0),
    ]  # fmt: skip


def test_state_dict_has_the_published_names_and_shapes():
    net = mvit(out_features=("scale3", "scale5"))
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert shapes["blocks.2.attn.qkv.weight"] == (48, 8)
    assert shapes["blocks.2.attn.pool_k.weight"] == (8, 1, 3, 3)
    assert shapes["blocks.2.proj.weight"] == (16, 8)
    assert shapes["blocks.0.attn.rel_pos_h"] == (31, 8)
    assert shapes["scale3_norm.weight"] == (16,)
    assert "scale2_norm.weight" not in shapes
    assert "blocks.0.proj.weight" not in shapes
    assert [shape.stride for shape in net.output_shape().values()] == [8, 32]
