"""Conversion as such; the layouts one by one are in layouts/."""

import torch
from torch import Tensor

from d2ext.checkpoint import convert_official
from d2ext.checkpoint.conversion import convert


def tensors(*names: str, size: int = 1) -> dict[str, Tensor]:
    return {name: torch.zeros(size) for name in names}


STEM, TABLE = "patch_embed.proj.weight", "layers.0.blocks.0.attn.relative_position_bias_table"
SWIN = tensors(STEM, TABLE)


def test_unknown_and_own_names_stay_as_they_are() -> None:
    weights = tensors("backbone.blocks.0.spatial.offset.weight", "a")
    assert convert_official(weights) == weights
    assert not convert(weights).known


def test_tensors_are_the_files_own() -> None:
    converted = convert_official(SWIN)
    assert all(converted[name] is SWIN[name] for name in SWIN)


def test_computed_buffers_are_dropped_unless_the_model_has_them() -> None:
    index = "layers.0.blocks.0.attn.relative_position_index"
    weights = SWIN | tensors(index, "layers.0.blocks.1.attn_mask", "head.bias")
    assert sorted(convert(weights).unused) == sorted({*weights} - {*SWIN})
    assert convert(weights, weights).unused == ["head.bias", "layers.0.blocks.1.attn_mask"] or (
        index in convert(weights, SWIN | tensors(index)).weights
    )


def test_a_bare_backbone_gets_its_prefix_in_a_detector() -> None:
    model = {f"backbone.backbone.bottom_up.{name}": value for name, value in SWIN.items()}
    found = convert(SWIN | tensors("layers.9.x"), model | tensors("head.bias"))
    assert list(found.weights) == list(model)
    assert found.unplaced == ["layers.9.x"]


def test_a_backbone_gets_the_prefix_with_matching_shapes() -> None:
    model = {
        f"{place}.{name}": torch.zeros(n) for n, place in ((2, "a"), (1, "b")) for name in SWIN
    }
    assert list(convert_official(SWIN, model)) == [f"b.{name}" for name in SWIN]


def test_any_backbone_is_recognised_by_the_names_of_the_model() -> None:
    model = tensors("backbone.model.stages_0.conv.weight", "backbone.model.conv_stem.weight")
    weights = tensors("stages.0.conv.weight", "conv_stem.weight", "classifier.bias")
    assert list(convert_official(weights, model)) == list(model)


def test_accidental_name_matches_are_ignored() -> None:
    model = tensors("head.bias", "head.weight", size=3) | tensors("head.scale")
    found = convert(tensors("scale", "bias", "weight"), model)
    assert not found.match(model).matched


def test_the_layout_with_most_matches_is_used() -> None:
    weights = tensors("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.bias")
    ours = tensors("bottom_up.stem.conv1.weight", "bottom_up.res2.0.conv1.weight")
    assert list(convert_official(weights, ours)) == list(ours)
    timm = tensors("bottom_up.model.conv1.weight", "bottom_up.model.bn1.weight")
    timm |= tensors("bottom_up.model.layer1.0.conv1.weight")
    assert list(convert_official(weights, timm)) == list(timm)
