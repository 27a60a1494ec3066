"""Configs of versions 0 and 1."""

from pathlib import Path

import pytest

import d2ext  # noqa: F401
from detectron2.config import CfgNode, downgrade_config, get_cfg, upgrade_config


def merged(tmp_path: Path, text: str) -> CfgNode:
    path = tmp_path / "old.yaml"
    path.write_text(text)
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    return cfg


@pytest.mark.parametrize("version", [0, 1])
def test_a_downgrade_followed_by_an_upgrade_is_the_identity(version: int):
    cfg = get_cfg()
    cfg.USERS_OWN = CfgNode({"KEY": 1})
    down = downgrade_config(cfg, version)
    assert down.MODEL.WEIGHT == ""
    assert "WEIGHTS" not in down.MODEL
    assert upgrade_config(down) == cfg
    assert cfg.VERSION == 2


def test_a_downgraded_config_has_the_defaults_under_old_names():
    down = downgrade_config(get_cfg(), 0)
    assert down.MODEL.RPN_HEAD.NAME == "StandardRPNHead"
    assert down.MODEL.PANOPTIC_FPN.COMBINE_STUFF_AREA_LIMIT == 4096
    assert down.MODEL.RETINANET.INFERENCE_TOPK_CANDIDATES == 1000
    assert down.MODEL.RETINANET.ANCHOR_STRIDES == []
    assert down.TEST.AUG_MIN_SIZES[0] == 400
    assert "AUG" not in down.TEST
    assert "COMBINE" not in down.MODEL.PANOPTIC_FPN


def test_a_file_of_version_1_is_upgraded(tmp_path: Path):
    cfg = merged(tmp_path, "VERSION: 1\nMODEL: {RPN: {ANCHOR_SIZES: [[7]]}}\nTEST: {AUG_ON: true}")
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == [[7]]
    assert cfg.TEST.AUG.ENABLED is True
    assert cfg.VERSION == 2
    assert set(cfg.MODEL) == set(get_cfg().MODEL)


def test_version_1_retinanet_anchors_become_the_anchor_generators(tmp_path: Path):
    anchors = "RETINANET: {ANCHOR_SIZES: [[7]]}, RPN: {ANCHOR_SIZES: [[8]]}"
    cfg = merged(tmp_path, f"VERSION: 1\nMODEL: {{META_ARCHITECTURE: RetinaNet, {anchors}}}\n")
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == [[7]]
    assert not {"ANCHOR_SIZES", "ANCHOR_STRIDES"} & set(cfg.MODEL.RETINANET)


@pytest.mark.parametrize("text", ["MODEL: {WEIGHT: x}", "MODEL: {WEIGHT: x}\nTEST: {AUG_ON: true}"])
def test_old_names_identify_a_file_without_version(tmp_path: Path, text: str):
    assert merged(tmp_path, text).MODEL.WEIGHTS == "x"


def test_a_newer_file_is_an_error(tmp_path: Path):
    with pytest.raises((ValueError, AssertionError), match="v3 config into a v2"):
        merged(tmp_path, "VERSION: 3\n")


def test_upgrades_and_downgrades_in_the_wrong_direction_are_errors():
    with pytest.raises((ValueError, AssertionError), match="v2 to v1"):
        upgrade_config(get_cfg(), 1)
    with pytest.raises((ValueError, AssertionError), match="v2 to v3"):
        downgrade_config(get_cfg(), 3)
