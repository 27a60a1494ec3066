"""`LazyConfig`, `LazyCall` and `instantiate`."""

from argparse import Namespace
from itertools import count
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

import d2ext  # noqa: F401
from d2ext._detectron2 import provider
from detectron2.config import LazyCall, LazyConfig, configurable, instantiate
from detectron2.engine import default_setup
from detectron2.layers import ShapeSpec

bundled_only = pytest.mark.skipif(provider() != "bundled", reason="the official one is unlike")


class Thing:
    def __init__(self, **arguments: object) -> None:
        self.__dict__.update(arguments)


def config(**values: object) -> DictConfig:
    return DictConfig(values, flags={"allow_objects": True})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "base.py").write_text("base = dict(a=1, b=[1, 2])\nname = 'x'\n_hidden = {}\n")
    (tmp_path / "main.py").write_text(
        "from itertools import count\n"
        "from detectron2.config import LazyCall, LazyConfig\n"
        "from .base import base, name\n"
        "base.a = 2\n"
        "from .base import base as other\n"
        "rel = LazyConfig.load_rel('base.py', 'base')\n"
        "call = LazyCall(count)(start='${..base.a}', step=0.5)\n"
        "number = 3\n"
        "def function(): pass\n"
    )
    return tmp_path


def test_loading_a_file_returns_its_mappings(files: Path):
    cfg = LazyConfig.load(str(files / "main.py"))
    assert sorted(cfg) == ["base", "call", "other", "rel"]
    assert cfg.call._target_ is count


def test_each_import_runs_the_file_anew(files: Path):
    cfg = LazyConfig.load(str(files / "main.py"))
    assert (cfg.base.a, cfg.other.a, cfg.rel.a) == (2, 1, 1)


def test_keys_select_values(files: Path):
    main = str(files / "main.py")
    assert LazyConfig.load(main, "number") == 3
    base, name = LazyConfig.load(main, ("base", "name"))
    assert (base.a, name) == (2, "x")
    with pytest.raises(KeyError):
        LazyConfig.load(main, "no_such")


@pytest.mark.parametrize(
    ("name", "source", "error"),
    [
        ("c.txt", "", ValueError),
        ("c.py", "x = = 1", SyntaxError),
        ("c.py", "from . import base", ImportError),
        ("c.py", "from .none import x", ImportError),
    ],
)
def test_files_that_are_not_configs_are_errors(files: Path, name: str, source: str, error: type):
    (files / name).write_text(source)
    with pytest.raises(error):
        LazyConfig.load(str(files / name))


@bundled_only
def test_a_bad_import_names_both_files(files: Path):
    (files / "c.py").write_text("from .none import x")
    with pytest.raises(ImportError, match=r"c\.py.*none\.py does not exist"):
        LazyConfig.load(str(files / "c.py"))


def test_a_missing_file_is_an_error(files: Path):
    with pytest.raises(FileNotFoundError):
        LazyConfig.load(str(files / "none.py"))


def test_a_lazy_call_runs_when_it_is_instantiated():
    conv = LazyCall(nn.Conv2d)(in_channels=3, out_channels="${.in_channels}", kernel_size=1)
    conv.in_channels = 4
    assert instantiate(conv).weight.shape == (4, 4, 1, 1)


def test_arguments_are_instantiated_first():
    inner, item = LazyCall(Thing)(x="${..x}"), LazyCall(Thing)(x=2)
    thing = instantiate(LazyCall(Thing)(x=1, inner=inner, several=[item], plain={"k": 1}))
    assert (thing.inner.x, thing.several[0].x) == (1, 2)
    assert isinstance(thing.several, ListConfig)
    assert isinstance(thing.plain, DictConfig)


def test_a_target_may_be_a_name_or_a_call():
    assert instantiate({"_target_": "datetime.timedelta", "days": 2}).days == 2
    adder = LazyCall(LazyCall("functools.partial")(func=None))(start=3)
    assert adder._target_._target_ == "functools.partial"


def test_values_without_a_target_are_returned_unchanged():
    plain = {"a": LazyCall(Thing)()}
    assert instantiate(plain) is plain
    assert instantiate([LazyCall(Thing)(), 1])[1] == 1
    assert instantiate(5) == 5


def test_targets_that_cannot_be_called_are_errors():
    with pytest.raises(TypeError):
        LazyCall(3)
    with pytest.raises(TypeError, match="zz"):
        instantiate({"_target_": "torch.nn.Linear", "zz": 1})
    with pytest.raises(ImportError):
        instantiate({"_target_": "no.such.thing"})


def test_dataclasses_are_targets_and_arguments():
    assert LazyCall(ShapeSpec)(channels=1)._target_ == "detectron2.layers.ShapeSpec"
    assert instantiate(LazyCall(ShapeSpec)(channels=1)) == ShapeSpec(channels=1)
    assert instantiate(LazyCall(Thing)(shape=ShapeSpec(stride=4))).shape == ShapeSpec(stride=4)


def test_a_saved_config_loads_and_instantiates(tmp_path: Path):
    cfg = config(
        call=LazyCall(nn.Sequential)(), shape=ShapeSpec(channels=1), kind=nn.ReLU, text="Größe"
    )
    path = str(tmp_path / "c.yaml")
    LazyConfig.save(cfg, path)
    if provider() == "bundled":
        assert "_target_: detectron2.layers.ShapeSpec" in Path(path).read_text(encoding="utf-8")
    loaded = LazyConfig.load(path)
    assert loaded.call._target_ == "torch.nn.Sequential"
    assert isinstance(instantiate(loaded.call), nn.Sequential)
    assert loaded.text == "Größe"
    assert loaded.kind is nn.ReLU
    assert LazyConfig.load(path, "text") == "Größe"
    assert [p.name for p in tmp_path.iterdir()] == ["c.yaml"]


def test_what_yaml_cannot_hold_is_pickled(tmp_path: Path):
    path = tmp_path / "c.yaml"
    LazyConfig.save(config(x=lambda: 3), str(path))
    assert (tmp_path / "c.yaml.pkl").exists()


@bundled_only
def test_a_yaml_tag_runs_nothing(tmp_path: Path):
    path, marker = tmp_path / "c.yaml", tmp_path / "ran"
    path.write_text(f"x: !!python/object/apply:os.mkdir ['{marker.as_posix()}']\n")
    with pytest.raises(ValueError, match=r"c\.yaml.*run code"):
        LazyConfig.load(str(path))
    assert not marker.exists()


@bundled_only
def test_an_error_names_a_yaml_file_without_a_mapping(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match=r"c\.yaml.*list"):
        LazyConfig.load(str(tmp_path / "c.yaml"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("1e-4", 1e-4),
        ("true", True),
        ("null", None),
        ("", ""),
        ("a b", "a b"),
        ("'5'", "5"),
        ("[1,b,{c:2}]", [1, "b", {"c": 2}]),
        ("${d.e.f}", 1),
    ],
)
def test_overrides_are_typed(text: str, value: object):
    cfg = config(d={"a": 1, "e": {"f": 1}})
    assert LazyConfig.apply_overrides(cfg, [f"d.a={text}", "+d.new=1", "++other=2"]) is cfg
    assert cfg.d.a == value
    assert (cfg.d.new, cfg.other) == (1, 2)


def test_overrides_reach_into_lists_and_new_sections():
    cfg = LazyConfig.apply_overrides(config(a=[1, 2]), ["a.0=9", "b.c=3"])
    assert OmegaConf.to_container(cfg) == {"a": [9, 2], "b": {"c": 3}}


def test_impossible_overrides_are_errors():
    with pytest.raises(KeyError, match="a"):
        LazyConfig.apply_overrides(config(a=1), ["a.b=3"])
    with pytest.raises(NotImplementedError):
        LazyConfig.apply_overrides(config(a=1), ["~a"])
    with pytest.raises(Exception, match="bad"):
        LazyConfig.apply_overrides(config(a=1), ["bad"])


def test_to_py_formats_a_config_as_python():
    cfg = config(a={"b": [1, "x"]}, c=LazyCall(count)(start=1, step={"k": "${..start}"}))
    expected = 'cfg.a.b = [1, "x"]\ncfg.c = itertools.count(start=1, step={"k": 1})\n'
    assert LazyConfig.to_py(cfg) == expected
    assert LazyConfig.to_py(cfg, prefix="my.").startswith("my.a.b")


def test_to_py_breaks_long_lines():
    long = LazyCall(count)(a=["a" * 30, "b" * 30], b=["c" * 40, "d" * 40], e=LazyCall(count)())
    assert LazyConfig.to_py(config(x=long)).splitlines() == [
        "cfg.x = itertools.count(",
        f'    a=["{"a" * 30}", "{"b" * 30}"],',
        "    b=[",
        f'        "{"c" * 40}",',
        f'        "{"d" * 40}",',
        "    ],",
        "    e=itertools.count(),",
        ")",
    ]


@bundled_only
def test_to_py_quotes_keys_that_are_not_identifiers():
    assert LazyConfig.to_py(config(**{"a b": 1, "c": {}})) == 'cfg["a b"] = 1\ncfg.c = {}\n'


def test_default_setup_accepts_a_lazy_config(tmp_path: Path):
    cfg = config(train={"output_dir": str(tmp_path), "seed": 3}, kind=LazyCall(nn.ReLU)())
    default_setup(cfg, Namespace(config_file="", eval_only=True))
    assert LazyConfig.load(str(tmp_path / "config.yaml")).kind._target_ == "torch.nn.ReLU"
    first = torch.rand(1)
    default_setup(cfg, Namespace(config_file="", eval_only=True))
    assert torch.equal(torch.rand(1), first)


def test_a_configurable_is_built_from_an_omegaconf_config():
    class Built:
        @configurable
        def __init__(self, size: int) -> None:
            self.size = size

        @classmethod
        def from_config(cls, cfg: DictConfig) -> dict:
            return {"size": cfg.SIZE}

    assert Built(config(SIZE=3)).size == 3
