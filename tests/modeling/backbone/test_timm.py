import pytest
import timm
import torch
from safetensors.torch import save_file

from d2ext.errors import ConfigError, WeightsError
from d2ext.layers import depthwise_conv
from d2ext.modeling.backbone import TimmBackbone
from d2ext.ops import is_compiled


def build(name: str, *out_features: str) -> TimmBackbone:
    return TimmBackbone(name=name, in_channels=3, out_features=out_features, pretrained=False)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet10t", (64, 64)),
        ("mobilenetv3_small_050", (96, 160)),
        ("convnext_atto", (64, 96)),
        ("swin_tiny_patch4_window7_224", (96, 160)),  # made for one size, and channels last
    ],
)
def test_maps_have_the_strides_of_their_names(name: str, size: tuple[int, int]):
    model = build(name, "stride8", "stride32")
    with torch.no_grad():
        maps = model.eval()(torch.randn(1, 3, *size))
    assert list(maps) == ["stride8", "stride32"]
    for feature, shape in model.output_shape().items():
        sides = [side // shape.stride for side in size]
        assert maps[feature].shape == (1, shape.channels, *sides)


def test_unknown_model_is_refused_with_similar_names():
    with pytest.raises(ConfigError, match=r"no model 'resnet17'; similar names: .*resnet"):
        build("resnet17", "stride8")


def test_unknown_feature_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"no feature map 'stride3'; it has .*stride32"):
        build("resnet10t", "stride3")


def test_timms_weights_are_loaded_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    wanted = timm.create_model("resnet10t")
    place = tmp_path / "timm" / "resnet10t.c3_in1k" / "resolve" / "main" / "model.safetensors"
    place.parent.mkdir(parents=True)
    save_file(wanted.state_dict(), place)
    model = TimmBackbone(name="resnet10t", in_channels=3, out_features=["stride8"], pretrained=True)
    assert torch.equal(model.model["conv1"][0].weight, wanted.conv1[0].weight)


def test_timms_weights_without_a_network_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    monkeypatch.setattr("d2ext.model_zoo.download.is_reachable", lambda url: False)
    with pytest.raises(WeightsError, match=r"resnet10t.*cannot be downloaded.*put the file at"):
        TimmBackbone(name="resnet10t", in_channels=3, out_features=["stride8"], pretrained=True)


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        ("resnet10t", ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]),
        ("regnetx_002", ["stem", "s1", "s2", "s3", "s4"]),
        ("convnext_atto", ["stem", "stages_0", "stages_1", "stages_2", "stages_3"]),
    ],
)
def test_freeze_at_counts_stages_as_detectron2_does(name, frozen):
    strides = ("stride4", "stride8", "stride16", "stride32")
    stems = len(frozen) - 4
    for freeze_at in (0, 1, 3, 5):
        model = TimmBackbone(
            name=name, in_channels=3, out_features=strides, pretrained=False, freeze_at=freeze_at
        )
        count = stems + freeze_at - 1 if freeze_at else 0
        fixed = tuple(f"model.{part}" for part in frozen[:count])
        for parameter, value in model.named_parameters():
            assert value.requires_grad is not parameter.startswith(fixed or "none"), parameter


def test_frozen_stages_stay_in_evaluation_mode_and_keep_no_graph():
    model = TimmBackbone(
        name="tf_efficientnet_lite0",
        in_channels=3,
        out_features=("stride4", "stride8"),
        pretrained=False,
        freeze_at=2,
    ).train()
    blocks = model.model.blocks
    assert [block.training for block in blocks] == [False, False, *[True] * (len(blocks) - 2)]
    before = blocks[0][0].bn1.running_mean.clone()
    maps = model(torch.randn(2, 3, 64, 64))
    assert not maps["stride4"].requires_grad
    assert maps["stride8"].requires_grad
    assert torch.equal(blocks[0][0].bn1.running_mean, before)


def test_frozen_norms_keep_their_statistics_and_the_others_learn():
    model = TimmBackbone(
        name="resnet10t",
        in_channels=3,
        out_features=("stride8",),
        pretrained=False,
        freeze_norm=True,
    ).train()
    assert not model.model["bn1"].training
    assert not model.model["bn1"].weight.requires_grad
    assert model.model["layer1"][0].conv1.weight.requires_grad


def test_frozen_depthwise_convolutions_keep_their_weights_and_the_others_learn():
    model = TimmBackbone(
        name="mobilenetv3_small_050",
        in_channels=3,
        out_features=("stride16",),
        pretrained=False,
        freeze_depthwise=True,
    )
    convs = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    for conv in convs:
        assert conv.weight.requires_grad is (conv.groups == 1)
    assert any(conv.groups > 1 for conv in convs)
    assert model.model.bn1.weight.requires_grad


def depthwise_dtypes(model: TimmBackbone) -> dict[tuple[int, int], set[torch.dtype]]:
    """Return the dtypes that depthwise convolutions compute in under autocast, by stride."""
    found: dict[tuple[int, int], set[torch.dtype]] = {}

    def note(conv: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        found.setdefault(conv.stride, set()).add(output.dtype)

    convs = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    hooks = [conv.register_forward_hook(note) for conv in convs if conv.groups > 1]
    with torch.autocast("cpu", torch.bfloat16):
        maps = model(torch.randn(1, 3, 64, 64))
    assert maps["stride16"].dtype == torch.bfloat16
    for hook in hooks:
        hook.remove()
    return found


def test_depthwise_convolutions_with_slow_gradients_compute_in_float32_on_a_cpu(monkeypatch):
    monkeypatch.setattr(depthwise_conv, "is_compiled", lambda _: False)
    model = build("mobilenetv2_050", "stride16")
    learning = depthwise_dtypes(model)
    assert learning == {(1, 1): {torch.float32}, (2, 2): {torch.float32}}
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.groups > 1:
            module.weight.requires_grad_(False)
    frozen = depthwise_dtypes(model)
    assert frozen == {(1, 1): {torch.bfloat16}, (2, 2): {torch.float32}}
    with torch.no_grad():
        assert set.union(*depthwise_dtypes(model).values()) == {torch.bfloat16}


@pytest.mark.skipif(not is_compiled("depthwise_conv2d"), reason="the operator is not compiled")
def test_compiled_depthwise_convolutions_compute_in_bfloat16_on_a_cpu():
    model = build("tf_efficientnet_lite0", "stride16")
    assert depthwise_dtypes(model) == {(1, 1): {torch.bfloat16}, (2, 2): {torch.bfloat16}}
