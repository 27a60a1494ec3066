"""`detectron2.config`: the config tree, its defaults and its files."""

from pathlib import Path

import pytest
import yaml

import d2ext  # noqa: F401
from d2ext._detectron2 import provider
from detectron2.config import CfgNode, get_cfg, global_cfg, set_global_cfg


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def leaves(cfg: CfgNode) -> int:
    return sum(leaves(value) if isinstance(value, CfgNode) else 1 for value in cfg.values())


def test_the_defaults_have_detectron2s_number_of_keys():
    cfg = get_cfg()
    assert cfg.VERSION == 2
    assert leaves(cfg) == 192


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("MODEL.RPN", "BBOX_REG_WEIGHTS", (1.0, 1.0, 1.0, 1.0)),
        ("MODEL.RPN", "CONV_DIMS", [-1]),
        ("MODEL.ROI_BOX_CASCADE_HEAD", "IOUS", (0.5, 0.6, 0.7)),
        ("MODEL.RETINANET", "PRIOR_PROB", 0.01),
        ("INPUT", "MIN_SIZE_TRAIN", (800,)),
        ("DATASETS", "TRAIN", ()),
        ("SOLVER", "WEIGHT_DECAY_BIAS", None),
        ("SOLVER", "STEPS", (30000,)),
        ("TEST", "EXPECTED_RESULTS", []),
    ],
)
def test_defaults_keep_value_and_type(section: str, key: str, value: object):
    node = get_cfg()
    for part in section.split("."):
        node = node[part]
    assert node[key] == value
    assert type(node[key]) is type(value)


def test_a_default_config_is_a_copy():
    get_cfg().MODEL.WEIGHTS = "changed"
    assert get_cfg().MODEL.WEIGHTS == ""


def test_a_dumped_config_reloads_alone(tmp_path: Path):
    cfg = get_cfg()
    cfg.SOLVER.STEPS = (7, 9)
    other = get_cfg()
    other.merge_from_file(write(tmp_path, "dump.yaml", cfg.dump()))
    assert yaml.safe_load(other.dump()) == yaml.safe_load(cfg.dump())
    assert other.SOLVER.STEPS == (7, 9)


def test_a_file_overrides_its_bases_in_order(tmp_path: Path):
    write(tmp_path, "a.yaml", "SEED: 1\nOUTPUT_DIR: a\nMODEL: {DEVICE: cpu}\n")
    write(tmp_path, "b.yaml", "OUTPUT_DIR: b\n")
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path, "c.yaml", "_BASE_: [a.yaml, b.yaml]\nVIS_PERIOD: 3\n"))
    assert (cfg.SEED, cfg.OUTPUT_DIR, cfg.MODEL.DEVICE, cfg.VIS_PERIOD) == (1, "b", "cpu", 3)


def test_files_are_utf8(tmp_path: Path):
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path, "c.yaml", "OUTPUT_DIR: Größe ≤ 1\n"))
    assert cfg.OUTPUT_DIR == "Größe ≤ 1"


def test_an_unknown_key_is_an_error(tmp_path: Path):
    with pytest.raises(KeyError, match=r"MODEL\.NO_SUCH"):
        get_cfg().merge_from_file(write(tmp_path, "c.yaml", "MODEL: {NO_SUCH: 1}\n"))


def test_merge_from_list_parses_python_literals_and_keeps_types():
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.BASE_LR", "1e-2", "SOLVER.STEPS", "[5, 6]", "MODEL.WEIGHTS", "x"])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.STEPS, cfg.MODEL.WEIGHTS) == (0.01, (5, 6), "x")
    with pytest.raises(ValueError, match="Type mismatch"):
        cfg.merge_from_list(["SOLVER.MAX_ITER", "1.5"])


@pytest.mark.skipif(provider() != "bundled", reason="the official package runs what tags say")
def test_a_tag_that_runs_code_is_refused(tmp_path: Path):
    marker = tmp_path / "ran"
    tag = "!!python/object/apply:pathlib.Path.touch"
    text = f"OUTPUT_DIR: {tag} [!!python/object/apply:pathlib.Path ['{marker.as_posix()}']]\n"
    with pytest.raises(ValueError, match=r"c\.yaml.*can run code"):
        get_cfg().merge_from_file(write(tmp_path, "c.yaml", text))
    assert not marker.exists()


@pytest.mark.skipif(provider() != "bundled", reason="the official one does not name the file")
@pytest.mark.parametrize(("text", "found"), [("- 1\n", "list"), ("", "nothing"), ("3\n", "int")])
def test_an_error_names_a_file_without_a_mapping(tmp_path: Path, text: str, found: str):
    with pytest.raises(ValueError, match=rf"c\.yaml: a config is a mapping.*{found}"):
        get_cfg().merge_from_file(write(tmp_path, "c.yaml", text))


def test_a_section_over_a_value_is_an_error(tmp_path: Path):
    write(tmp_path, "a.yaml", "MODEL: 3\n")
    with pytest.raises((ValueError, AssertionError), match="MODEL"):
        get_cfg().merge_from_file(write(tmp_path, "c.yaml", "_BASE_: a.yaml\nMODEL: {DEVICE: x}"))


def test_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises((FileNotFoundError, AssertionError), match=r"none\.yaml"):
        get_cfg().merge_from_file(str(tmp_path / "none.yaml"))


def test_set_global_cfg_changes_the_imported_object():
    cfg = get_cfg()
    cfg.GLOBAL.HACK = 2.5
    set_global_cfg(cfg)
    assert global_cfg.GLOBAL.HACK == 2.5


def test_a_key_added_to_the_defaults_is_in_every_new_config():  # packages extend them so
    from detectron2.config.defaults import _C

    _C.SOME_TEST = 3
    try:
        assert get_cfg().SOME_TEST == 3
    finally:
        del _C["SOME_TEST"]
