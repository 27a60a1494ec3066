import pytest
import torch
from torch import nn

from d2ext.modeling.backbone import SwinTransformer
from d2ext.modeling.backbone.swin import (
    PatchMerging,
    WindowAttention,
    join_windows,
    relative_positions,
    shift_mask,
    split_windows,
)


def tiny_swin(**changes: object) -> SwinTransformer:
    torch.manual_seed(0)
    options = {
        "in_channels": 3,
        "embed_dim": 8,
        "depths": [1, 2, 1, 1],
        "num_heads": [1, 2, 2, 4],
        "window_size": 7,
        "mlp_ratio": 2.0,
        "drop_path_rate": 0.0,
        "patch_norm": True,
        "use_checkpoint": True,
        "out_features": ["stage2", "stage3", "stage4", "stage5"],
    }
    return SwinTransformer(**{**options, **changes})


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (33, 61), (64, 30)])
def test_any_image_size_gives_maps_at_strides_4_to_32(size: tuple[int, int]):
    model = tiny_swin()
    features = model(torch.randn(2, 3, *size))
    for name, shape in model.output_shape().items():
        sides = [-(-side // shape.stride) for side in size]
        assert features[name].shape == (2, shape.channels, *sides)


def test_gradient_checkpointing_does_not_change_gradients():
    found = []
    for again in (True, False):
        model = tiny_swin(use_checkpoint=again, drop_path_rate=0.5)
        torch.manual_seed(1)  # of stochastic depth, which has to fall alike both times
        images = torch.rand(4, 3, 64, 64)
        loss = sum(feature.square().sum() for feature in model(images).values())
        found.append(torch.autograd.grad(loss, list(model.parameters())))
    for again, kept in zip(*found, strict=True):
        assert torch.equal(again, kept)


def test_patches_are_normalised_unless_the_config_says_otherwise():
    images = torch.rand(1, 3, 64, 64)
    tokens = [tiny_swin(patch_norm=norm).patch_embed(images) for norm in (True, False)]
    assert tokens[0].mean(-1).abs().max() < 1e-5
    assert tokens[1].mean(-1).abs().max() > 1e-3
    assert "patch_embed.norm.weight" not in tiny_swin(patch_norm=False).state_dict()


def test_strides_and_channels_double_from_stage_to_stage():
    shapes = tiny_swin(out_features=["stage3", "stage5"]).output_shape()
    assert {name: (s.channels, s.stride) for name, s in shapes.items()} == {
        "stage3": (16, 8),
        "stage5": (64, 32),
    }


def test_every_parameter_gets_a_finite_gradient():
    model = tiny_swin()
    features = model(torch.randn(1, 3, 70, 58))
    sum(feature.square().sum() for feature in features.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_stages_after_the_last_output_are_not_built():
    model = tiny_swin(out_features=["stage2", "stage4"])
    assert len(model.layers) == 3
    sum(value.sum() for value in model(torch.rand(1, 3, 64, 64)).values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_no_output_at_all_is_refused():
    with pytest.raises(ValueError, match="needs outputs"):
        tiny_swin(out_features=[])


def test_an_image_gives_the_same_features_alone_and_in_a_batch():
    model = tiny_swin().eval()
    images = torch.randn(3, 3, 50, 64)
    alone, together = model(images[1:2]), model(images)
    for name in alone:
        torch.testing.assert_close(alone[name], together[name][1:2])


def test_unknown_output_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no output 'res5'; it has .*stage5"):
        tiny_swin(out_features=["res5"])


def test_bfloat16_autocast_stays_close_to_float32():
    model = tiny_swin()
    images = torch.randn(1, 3, 64, 64)
    expected = model(images)["stage5"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(images)["stage5"]
        found.float().sum().backward()
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)


def test_drop_path_changes_training_only():
    model = tiny_swin(drop_path_rate=0.9)
    images = torch.randn(4, 3, 32, 32)
    assert not torch.equal(model.train()(images)["stage5"], model(images)["stage5"])
    assert torch.equal(model.eval()(images)["stage5"], model(images)["stage5"])


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("size", [(7, 7), (3, 4), (9, 15)])
def test_windows_and_back_is_the_identity(size: tuple[int, int], shift: int):
    tokens = torch.randn(2, *size, 3 * 4 * 5)
    parts = split_windows(tokens, 4, 7, shift)
    assert all(part.shape[2:] == (4, 49, 5) for part in parts)
    joined = [join_windows(part, size, 7, shift) for part in parts]
    assert torch.equal(torch.cat(joined, dim=-1), tokens)


def test_relative_positions_of_a_window_of_two():
    # Rows of the 3 x 3 table by (dy + 1) * 3 + dx + 1; tokens (0, 0), (0, 1), (1, 0), (1, 1).
    expected = [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    assert relative_positions(2).tolist() == expected


def test_shifted_windows_do_not_attend_across_the_border_of_the_map():
    mask = shift_mask(4, 4, 2, 1, torch.device("cpu"))
    assert mask[0].eq(0).all()  # the first window is whole
    assert mask[1].tolist()[0] == [0, -100, 0, -100]  # the last column meets the first
    assert mask[3].eq(-100).sum() == 12  # four corners of the map meet: each sees only itself


def test_padding_enters_attention_as_zeros_before_the_projection():
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, 7, 0)
    nn.init.normal_(attention.qkv.bias)
    tokens = torch.randn(1, 7, 7, 8)
    tokens[:, 5:] = 0
    tokens[:, :, 4:] = 0
    cropped = attention(tokens[:, :5, :4])
    torch.testing.assert_close(cropped, attention(tokens)[:, :5, :4])


def test_merging_orders_the_four_tokens_of_a_cell_by_column():
    merging = PatchMerging(1)
    seen = []
    merging.norm.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    merging(torch.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]]))
    assert seen[0].flatten().tolist() == [1, 3, 2, 4]


@pytest.mark.parametrize(
    ("freeze_at", "parts"),
    [(0, ()), (1, ("patch_embed",)), (3, ("patch_embed", "layers.0", "layers.1"))],
)
def test_freeze_at_counts_stages_and_leaves_the_norms_of_the_maps(freeze_at, parts):
    model = tiny_swin(freeze_at=freeze_at)
    fixed = tuple(f"{part}." for part in parts) or ("none",)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad is not name.startswith(fixed), name


def test_frozen_stages_of_a_swin_keep_no_graph_and_drop_no_path():
    model = tiny_swin(freeze_at=2, depths=[4, 2, 1, 1], drop_path_rate=0.9).train()
    tokens = model.patch_embed(torch.rand(1, 3, 64, 64))
    found, again = model.layers[0](tokens)[0], model.layers[0](tokens)[0]
    assert not found.requires_grad
    assert torch.equal(found, again)
    assert model.layers[1].training
