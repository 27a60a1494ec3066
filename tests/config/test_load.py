import pytest
import yaml

from d2ext.config import get_cfg, load_config
from d2ext.config.load import find_config
from d2ext.errors import ConfigError


def write(folder, text, name="config.yaml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


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
