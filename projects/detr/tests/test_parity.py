"""The family gives its authors' numbers, and settings of a case reach the model."""

import json
import shutil
from pathlib import Path

import pytest

import d2ext
from d2ext.errors import DataError
from d2ext.parity import run_case
from d2ext.projects.detr.parity import read_case
from detectron2.modeling import build_model

CASES = Path(d2ext.__file__).parents[1] / "tests/parity"
NAMES = [
    "detr_r50",
    "conditional_detr_r50",
    "dab_detr_r50",
    "deformable_detr_r50",
    "dino_r50_4scale",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_output_is_the_authors(name):
    comparisons = run_case(CASES / name)
    assert len(comparisons) == len(json.loads((CASES / name / "case.json").read_text())["outputs"])
    assert [comparison for comparison in comparisons if not comparison.passed] == []


@pytest.fixture
def changed(tmp_path):
    """Return the reader of a copy of a case with other settings."""

    def changed(name: str, **settings):
        folder = Path(shutil.copytree(CASES / name, tmp_path / name))
        facts = json.loads((folder / "case.json").read_text())
        facts["config"].update(settings)
        (folder / "case.json").write_text(json.dumps(facts))
        return read_case(folder)

    return changed


def test_settings_reach_the_model(changed):
    case = changed(
        "dab_detr_r50",
        dilation=True,
        enc_layers=1,
        dec_layers=2,
        num_queries=9,
        num_patterns=3,
        pe_temperatureW=30,
        detections="topk7",
        set_cost_giou=3,
        focal_alpha=0.5,
    )
    model = build_model(case.cfg())
    assert (len(model.encoder.layers), len(model.decoder.layers)) == (1, 2)
    assert model.refpoint_embed.weight.shape == (9, 4)
    assert model.patterns.num_embeddings == 3
    assert model.position_encoding.temperatures == (20.0, 30.0)
    assert model.backbone.output_shape()["res5"].stride == 16
    assert model.max_detections == 7
    assert model.criterion.matcher.giou_weight == 3.0
    assert model.criterion.matcher.focal_alpha == 0.5


def test_a_mask_head_is_built_where_a_case_has_masks(changed):
    model = build_model(changed("detr_r50", masks=True, backbone="resnet101").cfg())
    assert model.mask_head is not None
    assert len(model.backbone.res4) == 23


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("detr_r50", {"position_embedding": "learned"}, r"position_embedding: 'learned'"),
        ("detr_r50", {"num_registers": 4}, r"num_registers: not known here"),
        ("detr_r50", {"with_box_refine": True}, r"with_box_refine: not known here"),
        ("detr_r50", {"loss_weights": {"loss_iou": 1}}, r"loss_weights\.loss_iou: not known"),
        ("detr_r50", {"losses": ["labels", "iou"]}, r"losses\.iou: not known here"),
        ("deformable_detr_r50", {"masks": True}, r"masks: True"),
        ("dino_r50_4scale", {"transformer_activation": "gelu"}, r"transformer_activation: 'gelu'"),
        ("dino_r50_4scale", {"dn_labelbook_size": 90}, r"dn_labelbook_size: 90"),
        ("dino_r50_4scale", {"use_dn": False}, r"use_dn: False"),
    ],
)
def test_settings_without_a_counterpart_are_refused_by_name(changed, name, settings, message):
    with pytest.raises(DataError, match=rf"config\.{message}"):
        changed(name, **settings)


def test_the_form_of_the_detections_is_known_or_refused(changed):
    with pytest.raises(DataError, match=r"config\.detections: 'nms0\.7'"):
        changed("detr_r50", detections="nms0.7").cfg()


def test_deformable_models_do_not_read_the_activation_of_dab_detr(changed):
    case = changed("deformable_detr_r50", transformer_activation="prelu", enc_layers=1)
    kinds = {type(module).__name__ for module in build_model(case.cfg()).modules()}
    assert "PReLU" not in kinds


@pytest.mark.parametrize(
    ("backbone", "width", "heads", "window"),
    [("swin_T_224_1k", 96, 3, 7), ("swin_B_384_22k", 128, 4, 12)],
)
def test_a_case_may_have_a_swin_transformer(changed, backbone, width, heads, window):
    cfg = changed("dino_r50_4scale", backbone=backbone, enc_layers=1, dec_layers=1).cfg()
    model = build_model(cfg)
    first = model.backbone.layers[0].blocks[0].attn
    assert model.backbone.patch_embed.proj.out_channels == width
    assert len(first.relative_position_bias_table) == (2 * window - 1) ** 2
    assert first.relative_position_bias_table.shape[1] == heads
    assert model.in_features == ("stage3", "stage4", "stage5")


def test_settings_of_a_swin_transformer_override_what_its_name_implies(changed):
    swin = {"depths": [1, 1, 1, 1], "window_size": 4, "drop_path_rate": 0.2}
    options = {"enc_layers": 1, "dec_layers": 1, "return_interm_indices": [0, 1, 2, 3]}
    case = changed("dino_r50_4scale", backbone="swin_T_224_1k", swin=swin, **options)
    model = build_model(case.cfg())
    assert [len(stage.blocks) for stage in model.backbone.layers] == [1, 1, 1, 1]
    assert model.in_features == ("stage2", "stage3", "stage4", "stage5")


def test_an_unknown_backbone_of_a_case_is_refused(changed):
    with pytest.raises(DataError, match=r"config\.backbone: 'convnext_xlarge_22k'.*swin_T_224_1k"):
        changed("dino_r50_4scale", backbone="convnext_xlarge_22k").cfg()
