import sys

import pytest

from d2ext.config import load_config, plugins
from d2ext.config.load import load_dumped_config, load_saved_config
from d2ext.errors import ConfigError

PLUGIN = "def add_config(cfg):\n    cfg.MODEL.MINE = 1\n"


@pytest.fixture(autouse=True)
def _clean(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plugins, "_own", set())
    monkeypatch.setenv("D2EXT_CACHE", str(tmp_path / "cache"))
    yield
    sys.modules.pop("my_own_plugin", None)


def write(folder, text="PLUGINS: [my_own_plugin]\nMODEL: {MINE: 2}\n"):
    folder.mkdir()
    (folder / "my_own_plugin.py").write_text(PLUGIN, encoding="utf-8")
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return folder / "config.yaml"


def test_a_plugin_beside_the_config_is_found_and_so_it_is_by_the_dumped_config(tmp_path):
    cfg = load_config(write(tmp_path / "a"))
    assert cfg.MODEL.MINE == 2
    assert [str((tmp_path / "a").resolve())] == cfg.PLUGIN_FOLDERS
    again = load_dumped_config(cfg.dump(), ["MODEL.MINE", "3"], "a checkpoint")
    assert (again.MODEL.MINE, again.PLUGIN_FOLDERS) == (3, cfg.PLUGIN_FOLDERS)


def test_two_plugins_of_one_name_are_told_apart(tmp_path):
    load_config(write(tmp_path / "a"))
    with pytest.raises(ConfigError, match="Rename one of them"):
        load_config(write(tmp_path / "b"))


def test_a_shipped_base_is_found_from_anywhere(tmp_path):
    base = "_BASE_: configs/dyhead_regnetx200m.yaml\nSOLVER: {BASE_LR: 1}\n"
    cfg = load_config(write(tmp_path / "a", base))
    assert (cfg.MODEL.TIMM.NAME, cfg.SOLVER.BASE_LR) == ("regnetx_002", 1.0)


@pytest.mark.parametrize("cache", ["cache", "/dev/null/none"])
def test_weights_and_runs_run_code_only_where_a_config_has_used_it(tmp_path, monkeypatch, cache):
    monkeypatch.setenv("D2EXT_CACHE", str(tmp_path / cache))
    folder = tmp_path / "a"
    text = f"PLUGINS: [my_own_plugin]\nPLUGIN_FOLDERS: [{folder}]\n"
    config = write(folder, text)
    for load in (
        lambda: load_dumped_config(text, [], "weights"),
        lambda: load_saved_config(config),
    ):
        with pytest.raises(ConfigError, match=r"my_own_plugin is in .*a, and weights and runs"):
            load()
    assert "my_own_plugin" not in sys.modules
    load_config(config)
    assert load_saved_config(config).MODEL.MINE == 1
    monkeypatch.setattr(plugins, "_own", set())  # as in another process
    sys.modules.pop("my_own_plugin")
    if cache == "cache":
        assert load_dumped_config(text, [], "weights").MODEL.MINE == 1


def test_the_config_of_a_run_brings_no_plugin_from_beside_it(tmp_path):
    config = write(tmp_path / "a")
    with pytest.raises(ConfigError, match="no module my_own_plugin"):
        load_saved_config(config)
    assert "my_own_plugin" not in sys.modules
