"""Settings of cases are honoured, or refused by their names."""

import json
from copy import deepcopy
from pathlib import Path

import pytest

from d2ext.errors import DataError
from d2ext.parity import run_case
from d2ext.parity.case import Case
from d2ext.parity.core_settings import SWIN
from d2ext.parity.settings import detector_config
from detectron2.config import CfgNode

FOLDER = Path(__file__).parent
CASES = {
    name: Case(FOLDER / name) for name in ("dyhead_swint_atss", "dyhead_r50_retina", "fcos_r50")
}


def config_with(name: str, **changes: object) -> CfgNode:
    """The config of a case with changed settings; of "fcos__norm", `__` stands for a dot."""
    settings = deepcopy(CASES[name].config)
    for key, value in changes.items():
        *parts, last = key.split("__")
        node = settings
        for part in parts:
            node = node[part]
        node[last] = value
    return detector_config(settings, CASES[name].shapes)


@pytest.mark.parametrize(
    ("setting", "value", "key", "expected"),
    [
        ("use_scale", False, "LEVEL_SCALES", False),
        ("num_cls_convs", 2, "NUM_CLS_CONVS", 2),
        ("num_box_convs", 3, "NUM_BOX_CONVS", 3),
        ("num_share_convs", 1, "NUM_SHARED_CONVS", 1),
        ("norm", "none", "NORM", ""),
        ("norm", "BN", "NORM", "BN"),
        ("norm", "NaiveGN", "NORM", "GN"),
        ("use_deformable", True, "DEFORMABLE_TOWER", True),
        ("center_sample", False, "CENTER_RADIUS", 0.0),
        ("pos_radius", 2, "CENTER_RADIUS", 2.0),
        ("box_quality", "iou", "QUALITY", "iou"),
        ("loc_loss_type", "linear_iou", "BOX_LOSS", "linear_iou"),
        ("num_classes", 7, "NUM_CLASSES", 7),
        ("thresh_with_ctr", True, "THRESH_WITH_QUALITY", True),
        ("inference_th_test", 0.3, "SCORE_THRESH_TEST", 0.3),
        ("pre_nms_topk_test", 50, "TOPK_CANDIDATES_TEST", 50),
        ("nms_th", 0.4, "NMS_THRESH_TEST", 0.4),
        ("sizes_of_interest", [32, 64, 128, 256], "SIZES_OF_INTEREST", [32, 64, 128, 256]),
        ("loss_alpha", 0.5, "FOCAL_LOSS_ALPHA", 0.5),
        ("loss_gamma", 1, "FOCAL_LOSS_GAMMA", 1.0),
    ],
)
def test_settings_of_fcos_reach_the_config(setting, value, key, expected):
    assert config_with("fcos_r50", **{f"fcos__{setting}": value}).MODEL.FCOS[key] == expected


def test_settings_that_no_single_key_holds():
    assert config_with("fcos_r50", centerness_on="cls_tower").MODEL.FCOS.QUALITY_BRANCH == "class"
    assert config_with("fcos_r50", fcos__post_nms_topk_test=7).TEST.DETECTIONS_PER_IMAGE == 7
    assert config_with("dyhead_swint_atss", atss__use_gn=False).MODEL.ATSS.NORM == ""
    assert config_with("dyhead_swint_atss").MODEL.SWIN.DROP_PATH_RATE == 0
    assert config_with("dyhead_r50_retina", resnet__freeze_at=3).MODEL.BACKBONE.FREEZE_AT == 3
    assert config_with("dyhead_r50_retina", resnet__deform_on_per_stage=[False] * 3 + [True])


def test_published_shapes_complete_the_settings():
    settings, shapes = CASES["dyhead_swint_atss"].config, dict(CASES["dyhead_swint_atss"].shapes)
    cfg = detector_config(settings, shapes)
    assert (cfg.MODEL.FPN.TOP_LEVELS, cfg.MODEL.FPN.TOP_FEATURE) == (2, "")
    assert cfg.MODEL.ATSS.PREDICTOR_SIZE == 1
    shapes["head.cls_logits.weight"] = [80, 256, 3, 3]
    shapes["backbone.backbone.top_block.p6.weight"] = [256, 768, 3, 3]
    del shapes["backbone.backbone.top_block.p7.weight"]
    cfg = detector_config(settings, shapes)
    assert (cfg.MODEL.FPN.TOP_LEVELS, cfg.MODEL.FPN.TOP_FEATURE) == (1, "stage5")
    assert cfg.MODEL.ATSS.PREDICTOR_SIZE == 3


def test_faster_rcnn_on_a_dynamic_head_takes_detectron2s_pyramid():
    settings = deepcopy(CASES["dyhead_r50_retina"].config)
    del settings["retinanet"]
    settings |= {"rpn": {"post_nms_topk_test": 9}, "roi_heads": {"num_classes": 3}}
    cfg = detector_config(settings, {})
    assert cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"
    assert cfg.MODEL.DYHEAD.BACKBONE == "build_resnet_fpn_backbone"
    assert (cfg.MODEL.RPN.POST_NMS_TOPK_TEST, cfg.MODEL.ROI_HEADS.NUM_CLASSES) == (9, 3)


@pytest.mark.parametrize("name", CASES)
def test_no_unknown_setting_passes(name):
    parts = [key for key, value in CASES[name].config.items() if isinstance(value, dict)]
    for where in ("made_up", *(f"{part}__made_up" for part in parts)):
        dotted = where.replace("__", r"\.")
        with pytest.raises(DataError, match=rf"config\.{dotted}: not known here"):
            config_with(name, **{where: 1})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fcos__use_relu", False),
        ("fcos__loss_normalizer_cls", "moving_fg"),
        ("fcos__yield_proposal", True),
        ("fcos__box_quality", "score"),
        ("fcos__fpn_strides", [4, 8, 16, 32, 64]),
        ("fcos__top_levels", 1),
        ("centerness_on", "mask_tower"),
    ],
)
def test_values_that_do_not_exist_here_are_refused(setting, value):
    with pytest.raises(DataError, match=setting.replace("__", r"\.") + r": there is no .* here"):
        config_with("fcos_r50", **{setting: value})


def test_a_swin_with_positions_of_its_own_is_refused():
    with pytest.raises(DataError, match=r"config\.swin\.ape: there is no True here, only False"):
        config_with("dyhead_swint_atss", swin__ape=True)
    with pytest.raises(DataError, match=r"config\.qkv_bias"):
        SWIN.merge(CfgNode({"MODEL": {"SWIN": {}}}), "config", {"qkv_bias": False})


def spoiled(folder: Path, part: str, key: str, value: object) -> Path:
    """A copy of a case in `folder`, its `part.key` being `value`, or missing if that is None."""
    for file in (FOLDER / "fcos_r50").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    facts = json.loads((folder / "case.json").read_text())
    facts[part] = {**facts[part], key: value}
    if value is None:
        del facts[part][key]
    (folder / "case.json").write_text(json.dumps(facts))
    return folder


def test_another_alternative_postprocessing_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"alternative_postprocessing\.soft_nms: not known here"):
        run_case(spoiled(tmp_path, "alternative_postprocessing", "soft_nms", True))


def test_a_setting_that_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="config: there is no 'pixel_std'"):
        run_case(spoiled(tmp_path, "config", "pixel_std", None))


def test_another_padding_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"config\.size_divisibility: there is no 64 here, only 32"):
        run_case(spoiled(tmp_path, "config", "size_divisibility", 64))
