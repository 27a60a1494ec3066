"""Data sets named by flags and by DATASETS.REGISTER."""

from pathlib import Path

import pytest

from d2ext.data import parse_dataset_flag, register_datasets
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


@pytest.mark.parametrize("entry", [["name", "a.json"], "name:a.json:images", ["n", "a", 3]])
def test_an_entry_of_another_form_is_named_by_its_key(cfg, entry):
    cfg.DATASETS.REGISTER = [entry]
    with pytest.raises(ConfigError, match=r"DATASETS\.REGISTER\[0\]"):
        register_datasets(cfg)
