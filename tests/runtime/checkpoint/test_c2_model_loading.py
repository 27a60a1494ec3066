"""`detectron2.checkpoint.c2_model_loading`: matching of weight names."""

import logging

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.checkpoint.c2_model_loading import (
    _longest_common_prefix_str,
    align_and_update_state_dicts,
    convert_basic_c2_names,
)

NAMES = {
    "conv1_w": "stem.conv1.weight",
    "res_conv1_bn_s": "stem.conv1.norm.weight",
    "res_conv1_bn_b": "stem.conv1.norm.bias",
    "conv1_gn_s": "stem.conv1.norm.weight",
    "res2_0_branch1_w": "res2.0.shortcut.weight",
    "res2_0_branch1_bn_b": "res2.0.shortcut.norm.bias",
    "res2_0_branch2a_w": "res2.0.conv1.weight",
    "res3_11_branch2b_bn_s": "res3.11.conv2.norm.weight",
    "res5_2_branch2c_bn_rm": "res5.2.conv3.norm.running_mean",
    "res5_2_branch2c_bn_riv": "res5.2.conv3.norm.running_var",
    "res4_22_branch2b_gn_b": "res4.22.conv2.norm.bias",
    "pred_w": "linear.weight",
    "fc1000_b": "fc1000.bias",
}


def weights(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.full((2,), float(index)) for index, name in enumerate(names)}


def test_caffe2_backbone_names_are_converted():
    assert convert_basic_c2_names(list(NAMES)) == list(NAMES.values())


def test_the_longest_suffix_matches():
    model = weights("backbone.res2.conv1.weight", "backbone.conv1.weight")
    found = align_and_update_state_dicts(
        model, weights("conv1.weight", "res2.conv1.weight", "other"), c2_conversion=False
    )
    assert {name: value[0].item() for name, value in found.items()} == {
        "backbone.conv1.weight": 0,
        "backbone.res2.conv1.weight": 1,
        "other": 2,
    }


def test_suffixes_match_whole_parts_of_a_name():
    found = align_and_update_state_dicts(weights("a.xw"), weights("w"), c2_conversion=False)
    assert list(found) == ["w"]


def test_weights_of_another_shape_do_not_match():
    found = align_and_update_state_dicts(weights("a.w"), {"w": torch.zeros(3)}, c2_conversion=False)
    assert list(found) == ["w"]


def test_an_ambiguous_name_is_an_error():
    with pytest.raises(ValueError, match=r"(?i)several|multiple"):
        align_and_update_state_dicts(weights("a.w", "b.w"), weights("w"), c2_conversion=False)


def test_caffe2_weights_match_the_parameters_of_a_backbone():
    model = weights(
        "backbone.bottom_up.stem.conv1.weight", "backbone.bottom_up.res2.0.conv1.weight"
    )
    found = align_and_update_state_dicts(model, weights("res2_0_branch2a_w", "conv1_w"))
    assert set(found) == set(model)
    assert found["backbone.bottom_up.stem.conv1.weight"][0] == 1


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["ab.cd", "ab.ce.f"], "ab.c"),
        (["ab", "abc", "a"], "a"),
        (["ab", "cb"], ""),
        (["ab"], "ab"),
    ],
)
def test_the_common_prefix_is_by_characters(names: list[str], prefix: str):
    assert _longest_common_prefix_str(names) == prefix


def test_the_log_lists_the_matched_weights(caplog: pytest.LogCaptureFixture):
    model = weights("backbone.bottom_up.res2.w", "backbone.bottom_up.stem.w", "head.w")
    with caplog.at_level(logging.INFO):
        align_and_update_state_dicts(model, weights("res2.w", "stem.w"), c2_conversion=False)
    assert "backbone.bottom_up." in caplog.text
