"""Cases of DETR3D are built from their settings, whichever backbone, levels and head they have."""

import json
from pathlib import Path

import pytest

import d2ext
from d2ext.errors import DataError
from d2ext.projects.detr3d.modeling.head import DETR3DHead
from d2ext.projects.detr3d.parity.settings import detector_config, head_config, normalisation

CASE = Path(d2ext.__file__).parents[1] / "tests/parity/detr3d_full_r101dcn/case.json"
VOVNET = {
    "backbone": {
        **{"kind": "VoVNet", "spec_name": "V-99-eSE", "norm_eval": True, "frozen_stages": 1},
        **{"input_ch": 3, "out_features": ["stage2", "stage3", "stage4", "stage5"]},
    },
    "neck": {
        **{"kind": "FPN", "in_channels": [256, 512, 768, 1024], "out_channels": 256},
        **{"start_level": 0, "add_extra_convs": "on_output", "num_outs": 4},
    },
    "first_stride": 4,
}
DIVIDED = "minus [103.53, 116.28, 123.675], divided by [57.375, 57.12, 58.395]"


@pytest.fixture
def facts():
    """The case of ResNet-101."""
    return json.loads(CASE.read_text())


def test_a_vovnet_case_has_its_levels_and_normalisation(facts):
    cfg = detector_config({**facts["config"], **VOVNET}, {"features": DIVIDED})
    assert cfg.MODEL.FPN.BOTTOM_UP == "VoVNet"
    assert cfg.MODEL.FPN.IN_FEATURES == ["stage2", "stage3", "stage4", "stage5"]
    assert cfg.MODEL.FPN.TOP_LEVELS == 0
    assert cfg.MODEL.DETR3D.IN_FEATURES == ["p2", "p3", "p4", "p5"]
    assert cfg.MODEL.PIXEL_STD == [57.375, 57.12, 58.395]


@pytest.mark.parametrize(
    ("style", "dcn", "has_both"), [("pytorch", None, False), ("caffe", {"type": "DCN"}, True)]
)
def test_resnets_without_modulation_or_in_pytorchs_style(facts, style, dcn, has_both):
    backbone = {**facts["config"]["backbone"], "depth": 50, "style": style, "dcn": dcn}
    cfg = detector_config({**facts["config"], "backbone": backbone}, facts["input"])
    assert cfg.MODEL.RESNETS.DEPTH == 50
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1 is has_both
    assert any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE) is has_both
    assert not cfg.MODEL.RESNETS.DEFORM_MODULATED
    assert cfg.MODEL.PIXEL_STD == [1.0, 1.0, 1.0]


def test_other_heads_have_the_widths_and_counts_of_their_settings(facts):
    other = {"num_query": 30, "num_classes": 4, "decoder_layers": 3, "embed_dims": 64, "heads": 4}
    settings = {**facts["config"], **other, "ffn": 96, "cameras": 5, "levels": 3}
    head = DETR3DHead.from_config(head_config(settings))
    assert head.query_embedding.weight.shape == (30, 128)
    assert len(head.class_branches) == 3
    assert head.class_branches[0][-1].weight.shape == (4, 64)
    assert head.decoder.layers[0].cross_attn.attention_weights.weight.shape == (15, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": {"kind": "SwinTransformer"}}, "config.backbone.kind: 'SwinTransformer'"),
        ({"backbone": {**VOVNET["backbone"], "spec_name": "V-19-eSE"}}, "spec_name: 'V-19-eSE'"),
        ({"points": 4}, "config.points: there is no 4 here"),
        ({"temporal": 2}, r"config\.temporal: not known here"),
        ({"cost": {"focal": 2.0, "l1": 0.25, "iou": 1.0}}, r"config\.cost\.iou: there is no 1\.0"),
        ({"cost": {"focal": 2.0, "l1": 0.25, "giou": 1.0}}, r"config\.cost\.giou: not known"),
        ({"loss": {"focal": {"pos_weight": 2.0}}}, r"config\.loss\.focal\.pos_weight: not known"),
        ({"neck": {**VOVNET["neck"], "norm": "BN"}}, r"config\.neck\.norm: not known here"),
        (
            {"neck": {**VOVNET["neck"], "num_outs": 6}},
            r"config\.neck\.relu_before_extra_convs: there is no False here",
        ),
        ({"backbone": {**VOVNET["backbone"], "depth": 3}}, r"config\.backbone\.depth: not known"),
        ({"backbone": {"kind": "ResNet", "avg_down": True}}, r"config\.backbone\.avg_down: not"),
    ],
)
def test_settings_without_a_counterpart_are_refused(facts, change, message):
    with pytest.raises(DataError, match=message):
        detector_config({**facts["config"], **VOVNET, **change}, {"features": DIVIDED})


def test_a_text_without_a_normalisation_is_refused():
    with pytest.raises(DataError, match=r"expected 'minus \[m, m, m\]"):
        normalisation("none")
