"""Published Swin transformers in ours: the same features as the original's."""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from d2ext.checkpoint.conversion import convert
from d2ext.checkpoint.layouts.swin import fit_biases
from d2ext.modeling.backbone import SwinTransformer

IMAGES = torch.randn(1, 3, 128, 96, generator=torch.Generator().manual_seed(0))
DEPTHS, HEADS = (2, 2, 2, 2), (1, 2, 2, 4)


def ours(window_size: int = 2) -> nn.ModuleDict:
    swin = SwinTransformer(
        in_channels=3,
        embed_dim=16,
        depths=DEPTHS,
        num_heads=HEADS,
        window_size=window_size,
        mlp_ratio=4.0,
        drop_path_rate=0.0,
        patch_norm=True,
        use_checkpoint=False,
        out_features=["stage2", "stage5"],
    )
    return nn.ModuleDict({"backbone": nn.ModuleDict({"bottom_up": swin})}).eval()


def load(weights: dict[str, Tensor], layout: str) -> nn.Module:
    """Our Swin with converted weights, without the norms of its outputs, which no file has."""
    model = ours()
    found = convert(weights, model.state_dict())
    match = found.match(model.state_dict())
    assert match.layout == layout
    assert not match.unexpected
    assert not match.mismatched
    norms = [f"backbone.bottom_up.norm{n}.{kind}" for n in (0, 3) for kind in ("weight", "bias")]
    assert match.missing == norms
    model.load_state_dict(found.weights, strict=False)
    swin = model["backbone"]["bottom_up"]
    swin.norm0, swin.norm3 = nn.Identity(), nn.Identity()
    return swin


def test_timms_features_are_ours() -> None:
    options = {"embed_dim": 16, "depths": DEPTHS, "num_heads": HEADS, "window_size": 2}
    name = "swin_tiny_patch4_window7_224"
    origin = timm.create_model(name, img_size=(128, 96), always_partition=True, **options).eval()
    swin = load(origin.state_dict(), "timm Swin")
    with torch.no_grad():
        first, *_, last = origin.forward_intermediates(IMAGES, intermediates_only=True)
        features = swin(IMAGES)
    torch.testing.assert_close(features["stage2"], first)
    torch.testing.assert_close(features["stage5"], last)


def test_torchvisions_features_are_ours() -> None:
    origin = torchvision.models.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=16,
        depths=list(DEPTHS),
        num_heads=list(HEADS),
        window_size=[2, 2],
    ).eval()
    swin = load(origin.state_dict(), "torchvision Swin")
    with torch.no_grad():
        first = origin.features[:2](IMAGES)
        last = origin.features(IMAGES)
        features = swin(IMAGES)
    torch.testing.assert_close(features["stage2"], first.permute(0, 3, 1, 2))
    torch.testing.assert_close(features["stage5"], last.permute(0, 3, 1, 2))


def test_the_authors_names_are_ours() -> None:
    """`tests/parity` compares the features."""
    own = {n.removeprefix("backbone.bottom_up."): v for n, v in ours().state_dict().items()}
    own = {name: value for name, value in own.items() if not name.startswith(("norm0", "norm3"))}
    extra = {"layers.0.blocks.1.attn_mask": torch.zeros(4, 4, 4), "norm.weight": torch.zeros(128)}
    extra["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.long)
    extra["head.weight"] = torch.zeros(10, 128)
    swin = load(own | extra, "Swin-Transformer")
    state = swin.state_dict()
    assert all(torch.equal(state[name], value) for name, value in own.items())
    assert sorted(convert(own | extra).unused) == sorted(extra)


@pytest.mark.parametrize("name", ["swinv2_tiny_window8_256", "vit_tiny_patch16_224"])
def test_relatives_are_not_taken_for_swin(name: str) -> None:
    assert not convert(timm.create_model(name).state_dict()).known


def test_biases_are_interpolated_for_windows_of_another_size() -> None:
    origin, model = ours(4)["backbone"]["bottom_up"], ours(7)
    table = origin.layers[0].blocks[0].attn.relative_position_bias_table
    with torch.no_grad():  # grows with the vertical distance
        table.copy_(torch.arange(7.0)[:, None].expand(7, 7).reshape(49, 1))
    found = convert(origin.state_dict(), model.state_dict())
    match = found.match(model.state_dict())
    assert match.complete
    assert len(match.resized) == sum(DEPTHS)
    assert "8 interpolated to other windows" in match.summary()
    name = "backbone.bottom_up.layers.0.blocks.0.attn.relative_position_bias_table"
    resized = found.weights[name].view(13, 13)
    places = (torch.arange(13) + 0.5) * 7 / 13 - 0.5
    torch.testing.assert_close(resized[3:10, 6], places[3:10], atol=0.05, rtol=0)
    torch.testing.assert_close(resized[:, 0], resized[:, 12])


def test_a_table_of_other_heads_stays_as_it_is() -> None:
    table = torch.rand(49, 3)
    assert fit_biases(table, (169, 4)) is table
    assert fit_biases(table, (49, 3)) is table
