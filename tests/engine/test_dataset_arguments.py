"""Data sets of the flags: found from any folder, the same on resume, moved or empty."""

import json
import shutil

import pytest

from d2ext.cli.train import argument_parser
from d2ext.config import get_cfg
from d2ext.data.catalog import replace_datasets
from d2ext.data.dataset_paths import register_datasets
from d2ext.engine.compatibility import measurable_metric
from d2ext.engine.dataset_arguments import check_resumed_classes, find_datasets, resumed_datasets
from d2ext.engine.prepare import drop_empty_splits, settle_datasets
from d2ext.errors import ConfigError
from detectron2.data import DatasetCatalog
from tests.helpers.training import write_data


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    """The config of a run on data in `a`, a quarter of which is held out."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "a")
    cfg = get_cfg()
    cfg.DATASETS, _ = find_datasets(cfg, args("--train", "a", "--val", "0.25"))
    yield cfg
    replace_datasets([])


def args(*words):
    return argument_parser().parse_args(words)


def paths(datasets):
    return [entry["path"] for entry in datasets.REGISTER]


def test_relative_paths_are_found_from_another_folder(cfg, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    datasets, notes = resumed_datasets(cfg, args("--resume"), cfg.dump())
    assert paths(datasets) == [str(tmp_path / "a")] * 2
    assert resumed_datasets(cfg, args("--resume", "--train", "../a/"), cfg.dump())[1] == notes == []


def test_moved_data_are_named_once_and_hold_for_both_parts(cfg, tmp_path):
    shutil.move(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ConfigError, match=r"a, the data of this run, .* --train PATH"):
        resumed_datasets(cfg, args("--resume"), cfg.dump())
    datasets, notes = resumed_datasets(cfg, args("--resume", "--train", "b"), cfg.dump())
    assert paths(datasets) == [str(tmp_path / "b")] * 2
    assert [entry["holdout"]["part"] for entry in datasets.REGISTER] == ["train", "val"]
    assert notes == [f"the data of this run are in {tmp_path / 'b'} now"]


def test_other_data_are_refused_while_those_of_the_run_are_there(cfg, tmp_path):
    write_data(tmp_path / "b")
    with pytest.raises(ConfigError, match="is not the data of this run"):
        resumed_datasets(cfg, args("--resume", "--train", "b"), cfg.dump())


def test_data_of_other_classes_than_the_run_learns_are_refused():
    check_resumed_classes(["a", "b"], ("a", "b"))
    with pytest.raises(ConfigError, match="have the classes a, c by now, and the run learns a, b"):
        check_resumed_classes(["a", "b"], ("a", "c"))


def test_an_evaluation_says_that_the_validation_data_are_gone(cfg, tmp_path):
    shutil.move(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ConfigError, match="--val PATH names the data"):
        find_datasets(cfg, args("--eval-only"), cfg.dump())


def test_a_validation_split_without_images_is_dropped_and_said(cfg, tmp_path):
    document = json.loads((tmp_path / "a" / "annotations.json").read_text(encoding="utf-8"))
    (tmp_path / "a" / "annotations.json").rename(tmp_path / "a" / "train.json")
    empty = {**document, "images": [], "annotations": []}
    (tmp_path / "a" / "val.json").write_text(json.dumps(empty), encoding="utf-8")
    cfg.DATASETS.REGISTER = []  # of the quarter that is held out
    cfg.DATASETS, _ = find_datasets(cfg, args("--train", "a"))
    assert cfg.DATASETS.TEST == ("val",)
    replace_datasets(cfg.DATASETS.REGISTER)
    register_datasets(cfg)
    (note,) = drop_empty_splits(cfg.DATASETS)
    assert note.startswith("AP cannot be measured on val: ")
    assert "val.json" in note
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("train",), ())


def test_all_data_of_a_run_have_one_task(cfg, tmp_path):
    path = tmp_path / "a" / "annotations.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for item in document["annotations"]:
        item["bbox"] = [8.0, 8.0, 6.0, 4.0, 30.0]
    (tmp_path / "a" / "turned.json").write_text(json.dumps(document), encoding="utf-8")
    words = ("--train", "a/annotations.json", "--val", "a/turned.json")
    cfg.DATASETS.REGISTER = []
    cfg.DATASETS, _ = find_datasets(cfg, args(*words))
    replace_datasets(cfg.DATASETS.REGISTER)
    register_datasets(cfg)
    assert settle_datasets(cfg, eval_only=False) == []
    assert [entry.get("task") for entry in cfg.DATASETS.REGISTER] == ["rotated", None]
    assert {len(o["bbox"]) for i in DatasetCatalog.get("train") for o in i["annotations"]} == {5}
    before = cfg.DATASETS.clone()
    assert settle_datasets(cfg, eval_only=False) == []
    assert before == cfg.DATASETS


def test_the_best_weights_follow_what_the_validation_data_can_measure(cfg):
    replace_datasets(cfg.DATASETS.REGISTER)
    register_datasets(cfg)
    cfg.TEST.BEST_METRIC = "segm/AP"
    metric, (note,) = measurable_metric(cfg)
    assert metric == "bbox/AP"
    assert note == "TEST.BEST_METRIC bbox/AP, not segm/AP: val has no masks"
    cfg.TEST.BEST_METRIC = "bbox/AP50"
    assert measurable_metric(cfg) == ("bbox/AP50", [])
