"""The config of cases of every kind: official settings become ours."""

import json
import re
from pathlib import Path

import pytest

import d2ext
from d2ext.errors import DataError
from d2ext.projects.maskformer.parity.case import MaskFormerCase
from d2ext.projects.maskformer.parity.settings import HEAD, MODEL

FOLDER = Path(d2ext.__file__).parents[1] / "tests/parity"
SWIN = {
    "EMBED_DIM": 96,
    "DEPTHS": [2, 2, 6, 2],
    "NUM_HEADS": [3, 6, 12, 24],
    "WINDOW_SIZE": 7,
    "APE": False,
    "DROP_PATH_RATE": 0.3,
    "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
}


@pytest.fixture
def case(tmp_path):
    """Build a case from the settings of another, changed by a function."""

    def build(name: str, change) -> MaskFormerCase:
        facts = json.loads((FOLDER / name / "case.json").read_text())
        change(facts["config"]["settings"])
        (tmp_path / "case.json").write_text(json.dumps(facts))
        for file in ("entries.json", "golden.npz"):
            (tmp_path / file).symlink_to(FOLDER / name / file)
        return MaskFormerCase(tmp_path)

    return build


@pytest.mark.parametrize("plus", ["", "Plus"])
def test_baselines_average_over_all_pixels_whatever_deeplabs_loss_type_says(case, plus):
    def change(settings: dict) -> None:
        settings["MODEL.META_ARCHITECTURE"] = "SemanticSegmentor"
        settings[HEAD]["NAME"] = f"PerPixelBaseline{plus}Head"

    found = case("maskformer_r50_ade20k", change)
    assert found.settings[HEAD]["LOSS_TYPE"] == "hard_pixel_mining"
    cfg = found.cfg()
    assert f"PerPixelBaseline{plus}" == cfg.MODEL.META_ARCHITECTURE
    assert cfg.MODEL.MASK_FORMER.LOSS.PER_PIXEL == "cross_entropy"
    assert cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY == 0


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        (HEAD, "SHIFTED_ATTENTION", True),
        (MODEL, "TEMPERATURE", 2.0),
        (HEAD, "COMMON_STRIDE", 8),
        (MODEL, "ENC_LAYERS", 6),
        (MODEL, "HIDDEN_DIM", 128),
        (MODEL, "TRANSFORMER_IN_FEATURE", "pixel_embedding"),
        ("MODEL.RESNETS", "RES5_MULTI_GRID", [1, 2, 4]),
        ("MODEL.SWIN", "DROP_RATE", 0.1),
    ],
)
def test_settings_without_a_counterpart_are_refused_by_name(case, section, name, value):
    def change(settings: dict) -> None:
        if section == "MODEL.SWIN":
            settings["MODEL.BACKBONE.NAME"], settings["MODEL.SWIN"] = "D2SwinTransformer", SWIN
        settings[section] = {**settings.get(section, {}), name: value}

    named = rf"config\.settings\.{section}\.{name}: (there is no .* here|not known here)"
    with pytest.raises(DataError, match=re.compile(named, re.IGNORECASE)):
        case("maskformer_r50_ade20k", change).cfg()


def test_panoptic_mask2former_on_swin(case):
    def change(settings: dict) -> None:
        settings["MODEL.BACKBONE.NAME"], settings["MODEL.SWIN"] = "D2SwinTransformer", SWIN
        settings[HEAD]["NUM_CLASSES"] = 133
        settings[MODEL]["TEST"] |= {"SEMANTIC_ON": True, "INSTANCE_ON": True, "PANOPTIC_ON": True}

    cfg = case("mask2former_r50_coco_instance", change).cfg()
    model = cfg.MODEL.MASK_FORMER
    assert (cfg.MODEL.META_ARCHITECTURE, model.TASK) == ("Mask2Former", "panoptic")
    assert model.TEST.TASKS == ["semantic", "instance", "panoptic"]
    assert list(range(80)) == model.THING_IDS
    assert model.IN_FEATURES == ["stage2", "stage3", "stage4", "stage5"]
    assert (cfg.MODEL.SWIN.EMBED_DIM, cfg.MODEL.SWIN.DROP_PATH_RATE) == (96, 0.0)
    assert (model.DECODER_LAYERS, model.PIXEL_DECODER.ENCODER_LEVELS) == (9, 3)
