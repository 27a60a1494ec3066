"""Data sets named by flags and by DATASETS.REGISTER."""

from pathlib import Path

import pytest

from d2ext.config import get_cfg
from d2ext.data import parse_dataset_flag, register_datasets
from d2ext.data.catalog import DatasetSpec
from d2ext.data.dataset_paths import named_spec
from d2ext.data.formats.holdout import Holdout
from d2ext.errors import ConfigError, DataError
from detectron2.data import DatasetCatalog


@pytest.mark.parametrize(
    ("text", "annotations", "images"),
    [
        ("my/train.json:my/images", "my/train.json", "my/images"),
        ("a b/tr äin.json:im ages", "a b/tr äin.json", "im ages"),
        ("C:\\d\\t.json:D:\\images", "C:\\d\\t.json", "D:\\images"),
        ("C:/d/t.json:images", "C:/d/t.json", "images"),
        ("t.json:C:/images", "t.json", "C:/images"),
        ("at 10:30/t.json:images", "at 10:30/t.json", "images"),
        ("t.json:images at 10:30", "t.json", "images at 10:30"),
        ("a:b", "a", "b"),
    ],
)
def test_a_flag_is_split_at_the_colon_between_the_paths(text, annotations, images):
    assert parse_dataset_flag(text) == (Path(annotations), Path(images))


def test_a_file_that_exists_decides_where_the_flag_is_split(tmp_path):
    odd = tmp_path / "a.json:b"
    odd.touch()
    assert parse_dataset_flag(f"{odd}:images") == (odd, Path("images"))


@pytest.mark.parametrize("text", ["", "train.json:", ":images"])
def test_a_flag_with_nothing_on_one_side_says_what_one_looks_like(text):
    with pytest.raises(DataError, match="ANNOTATIONS:IMAGES"):
        parse_dataset_flag(text)


@pytest.mark.parametrize("text", ["my/data", "train.json", "C:\\train.json"])
def test_a_path_alone_stays_whole(text):
    assert parse_dataset_flag(text) == (Path(text), None)


def test_a_path_that_exists_is_not_split_at_its_colon(tmp_path):
    (tmp_path / "at 10:30").mkdir()
    assert parse_dataset_flag(f"{tmp_path}/at 10:30") == (tmp_path / "at 10:30", None)


def test_registering_reads_nothing_and_may_be_repeated(cfg):
    cfg.DATASETS.REGISTER = [{"name": "flag_set", "path": "missing.json", "images": "nowhere"}]
    register_datasets(cfg)
    register_datasets(cfg)
    assert "flag_set" in DatasetCatalog.list()


def test_a_name_in_use_for_other_data_is_refused(cfg):
    cfg.DATASETS.REGISTER = [{"name": "flag_set", "path": "a.json", "images": "images"}]
    register_datasets(cfg)
    cfg.DATASETS.REGISTER = [{"name": "flag_set", "path": "b.json", "images": "images"}]
    with pytest.raises(DataError, match=r"flag_set: .*a\.json.*b\.json"):
        register_datasets(cfg)


def test_a_name_that_detectron2_has_is_refused(cfg):
    cfg.DATASETS.REGISTER = [{"name": "shapes_val", "path": "a.json", "images": "images"}]
    with pytest.raises(DataError, match="shapes_val"):
        register_datasets(cfg)


@pytest.mark.parametrize(
    "entry",
    [
        ["name", "a.json"],
        "name:a.json:images",
        ["n", "a", 3],
        {"name": "n"},
        {"path": "a.json"},
        {"name": "n", "path": 3},
        {"name": "n", "path": "a.json", "image": "images"},
        {"name": "n", "path": "a.json", "holdout": {"part": "val", "share": 2}},
        {"name": "n", "path": "a.json", "holdout": "held 0.2 seed 0"},
    ],
)
def test_an_entry_of_another_form_is_named_by_its_key(cfg, entry):
    cfg.DATASETS.REGISTER = [entry]
    with pytest.raises(ConfigError, match=r"DATASETS\.REGISTER\[0\]"):
        register_datasets(cfg)


def test_a_config_that_was_dumped_registers_the_same(cfg, tmp_path):
    holdout = Holdout("val", 0.2, 3)
    spec = DatasetSpec("a.json", "images", "train", holdout)
    cfg.DATASETS.REGISTER = [spec.as_mapping("first"), DatasetSpec("b").as_mapping("second")]
    dumped = tmp_path / "config.yaml"
    dumped.write_text(cfg.dump(), encoding="utf-8")
    again = get_cfg()
    again.merge_from_file(str(dumped))
    assert [named_spec(entry) for entry in again.DATASETS.REGISTER] == [
        ("first", spec),
        ("second", DatasetSpec("b")),
    ]


def test_an_entry_has_only_the_fields_that_say_something():
    assert DatasetSpec("b").as_mapping("n") == {"name": "n", "path": "b"}


def test_data_sets_may_be_registered_on_the_command_line(cfg):
    value = "[{'name': 'mine', 'path': 'a.json', 'holdout': {'part': 'train', 'share': 0.1}}]"
    cfg.merge_from_list(["DATASETS.REGISTER", value])
    (entry,) = cfg.DATASETS.REGISTER
    assert named_spec(entry) == ("mine", DatasetSpec("a.json", holdout=Holdout("train", 0.1)))
