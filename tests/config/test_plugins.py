import sys

import pytest

from d2ext.config import load_config
from d2ext.config.load import load_dumped_config
from d2ext.errors import ConfigError

PLUGIN = "def add_config(cfg):\n    cfg.MODEL.MINE = 1\n"


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
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
