import itertools
import os

import pytest
import yaml

from d2ext.config import get_cfg, load_config
from d2ext.config.load import find_config
from d2ext.errors import ConfigError


def write(folder, text, name="config.yaml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def bomb():
    """Lines of YAML, each twice the one before."""
    names = "abcdefghijklmnopqrstuvwxyz"
    pairs = itertools.pairwise(names)
    return "".join(f"{new.upper()}: &{new} [*{old}, *{old}]\n" for old, new in pairs)


def test_the_command_line_wins_over_the_file_and_the_file_over_its_base(tmp_path):
    write(tmp_path, "SOLVER: {BASE_LR: 0.1, MAX_ITER: 7, GAMMA: 0.5}", "base.yaml")
    path = write(tmp_path, "_BASE_: base.yaml\nSOLVER: {MAX_ITER: 8, GAMMA: 0.25}")
    cfg = load_config(path, ["SOLVER.GAMMA", "0.125"])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.GAMMA) == (0.1, 8, 0.125)


def test_auto_keeps_the_default_and_is_listed(tmp_path):
    path = write(tmp_path, "SOLVER: {BASE_LR: auto, IMS_PER_BATCH: auto}")
    cfg = load_config(path, ["SOLVER.IMS_PER_BATCH", "4"])
    assert cfg.SOLVER.BASE_LR == get_cfg().SOLVER.BASE_LR
    assert "SOLVER.BASE_LR" in cfg.AUTO
    assert "SOLVER.IMS_PER_BATCH" not in cfg.AUTO
    assert cfg.SOLVER.IMS_PER_BATCH == 4


def test_a_class_count_is_auto_unless_it_is_given(tmp_path):
    path = write(tmp_path, "MODEL: {RETINANET: {NUM_CLASSES: 3}}")
    cfg = load_config(path)
    assert "MODEL.ATSS.NUM_CLASSES" in cfg.AUTO
    assert "MODEL.RETINANET.NUM_CLASSES" not in cfg.AUTO


def test_a_dumped_config_reloads_alone(tmp_path):
    cfg = load_config(find_config("configs/dyhead_swint.yaml"), ["SOLVER.MAX_ITER", "3"])
    cfg.AUTO = []
    again = load_config(write(tmp_path, cfg.dump()))
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())


def test_a_shipped_config_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("configs/dyhead_swint.yaml") == find_config("dyhead_swint.yaml")


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("SOLVER: {BASELR: 1}", [], "unknown key SOLVER.BASELR; did you mean SOLVER.BASE_LR?"),
        ("MODEL: {DETR: {A: 1}}", [], "name the project under PLUGINS"),
        ("SOLVER: {MAX_ITER: many}", [], "SOLVER.MAX_ITER"),
        ("PLUGINS: [no.such.module]", [], "no module no.such.module"),
        ("PLUGINS: [json]", [], "json has no function add_config"),
        ("_BASE_: missing.yaml", [], "_BASE_: no file"),
        ("SOLVER: [", [], "not plain YAML"),
        ("!!python/object/apply:os.getcwd []", [], "not plain YAML"),
        ("- a", [], "a config is a mapping"),
        ("", ["SOLVER.GAMMA"], "KEY VALUE pairs"),
        ("", ["SOLVER.GAMMA", "0.1", "--resume", "x"], "flags come before them"),
    ],
)
def test_a_mistake_is_named_with_its_source(tmp_path, text, overrides, said):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert said in str(caught.value)
    source = "command line" if overrides else path.name
    assert source in str(caught.value) or "PLUGINS" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A: &a [1, 1]\n" + bomb(), "more than 100000 values"),
        ("A: &a {b: *a}", "an alias of the node that it is in"),
        ("A: " + "[" * 5000, "nested more than 64 deep"),
        ("SOLVER: {MAX_ITER: " + "9" * 5000 + "}", "a number of more than 64 characters"),
        ("SOLVER: {MAX_ITER: 0x8000000000000000}", "an integer of more than 64 bits"),
        ("A: 2020-99-99", "month must be in 1..12"),
        ('OUTPUT_DIR: "\\ud800"', "surrogates not allowed"),
        ('OUTPUT_DIR: "a\\0b"', "a NUL character"),
        ('OUTPUT_DIR: "\\U00110000"', "not plain YAML"),
        ("OUTPUT_DIR: \0", "not plain YAML"),
        ("#" * 2**21, "larger than 1048576 bytes"),
        ("_BASE_: config.yaml", "_BASE_ leads back to itself: config.yaml -> config.yaml"),
        ("_BASE_: ~nobody/a.yaml", "_BASE_: no file"),
        ("_BASE_: 5", "_BASE_: must be a name or a list of names, got 5"),
        ("_BASE_: " + "a" * 5000, "_BASE_: no file"),
        ("PLUGINS: [1]", "PLUGINS: must be a name or a list of names"),
        ("PLUGINS: ..a", "PLUGINS: '..a' is no name of a module"),
    ],
)
def test_a_hostile_config_is_one_message_with_its_file(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert said in str(caught.value)
    assert "config.yaml" in str(caught.value) or "PLUGINS" in str(caught.value)


def test_a_message_about_yaml_has_line_and_column(tmp_path):
    path = write(tmp_path, "SEED: 1\nSOLVER:\n  MAX_ITER: " + "9" * 70)
    with pytest.raises(ConfigError, match=r"line 3, column 13"):
        load_config(path)


def test_a_message_about_yaml_is_one_line(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "MODEL: [1, 2\n"))
    place = "line 2, column 1: while parsing a flow sequence: expected ',' or ']'"
    assert str(caught.value).endswith(f"not plain YAML: {place}, but got '<stream end>'")


@pytest.mark.parametrize(
    ("name", "said"), [("a.pth", "--weights FILE"), ("a.json", "--train PATH")]
)
def test_other_files_are_no_configs_by_whatever_path(tmp_path, name, said):
    (tmp_path / name).write_bytes(b"\x80")
    with pytest.raises(ConfigError, match=f"not a config.*{said}"):
        load_config(tmp_path / name)


def test_bases_in_a_circle_are_named(tmp_path):
    write(tmp_path, "_BASE_: b.yaml", "a.yaml")
    write(tmp_path, "_BASE_: a.yaml", "b.yaml")
    with pytest.raises(ConfigError, match=r"_BASE_ leads back .*: a.yaml -> b.yaml -> a.yaml"):
        load_config(tmp_path / "a.yaml")


def test_a_base_is_read_once_however_often_it_is_named(tmp_path):
    write(tmp_path, "SEED: 3", "0.yaml")
    for level in range(1, 16):  # 10**15 files, were each read again
        write(tmp_path, f"_BASE_: [{', '.join([f'{level - 1}.yaml'] * 10)}]", f"{level}.yaml")
    assert load_config(tmp_path / "15.yaml").SEED == 3
    write(tmp_path, "_BASE_: 15.yaml", "16.yaml")
    for level in range(17, 30):
        write(tmp_path, f"_BASE_: {level - 1}.yaml", f"{level}.yaml")
    with pytest.raises(ConfigError, match="more than 20 levels"):
        load_config(tmp_path / "29.yaml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_only_regular_files_are_configs(tmp_path):
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="_BASE_: no file"):
        load_config(write(tmp_path, "_BASE_: a.yaml"))


def test_a_value_nested_too_deeply_on_the_command_line_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"command line: SOLVER\.STEPS"):
        load_config(write(tmp_path, ""), ["SOLVER.STEPS", "(" * 100_000])


def test_a_missing_config_names_those_there_are():
    with pytest.raises(ConfigError, match=r"no such config file.*dyhead_swint\.yaml"):
        load_config("configs/dyhed.yaml")


def test_a_plugin_adds_its_section(tmp_path, monkeypatch):
    write(tmp_path, "def add_config(cfg):\n    cfg.MODEL.MINE = 1\n", "my_plugin.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = load_config(write(tmp_path, "PLUGINS: [my_plugin]\nMODEL: {MINE: 2}"))
    assert cfg.MODEL.MINE == 2
    assert cfg.PLUGINS == ["my_plugin"]


def test_configs_of_projects_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load_config("projects/yolo_fastest/configs/yolo_fastest_v2_coco.yaml")
    assert cfg.MODEL.META_ARCHITECTURE == "YoloFastest"
    with pytest.raises(ConfigError, match="no such config file"):
        load_config("projects/yolo_fastest/configs/none.yaml")
