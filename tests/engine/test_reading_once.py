"""The annotations are parsed once on the way from the command to the first batch."""

import json
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from d2ext.cli.train import argument_parser
from d2ext.data import build_test_loader, build_train_loader
from d2ext.data.catalog import forget_datasets
from d2ext.engine.prepare import prepare
from detectron2.data import DatasetCatalog
from tests.helpers.catalog import free_names
from tests.helpers.training import write_data


@pytest.fixture(autouse=True)
def _free_names():
    with free_names():
        yield
    forget_datasets()


@pytest.fixture
def parses(monkeypatch) -> Counter[str]:
    """Number of times that each text of JSON was parsed."""
    counts: Counter[str] = Counter()
    by_python, by_msgspec = json.JSONDecoder.decode, msgspec.json.decode

    def counted(self, text, *more):
        counts[text] += 1
        return by_python(self, text, *more)

    def counted_bytes(content):
        counts[content.decode()] += 1
        return by_msgspec(content)

    monkeypatch.setattr(json.JSONDecoder, "decode", counted)
    monkeypatch.setattr(msgspec.json, "decode", counted_bytes)
    return counts


def annotations(folder: Path, name: str) -> Path:
    write_data(folder / name)
    path = folder / name / "annotations.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["info"] = {"description": name}  # so that no two files have the same text
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def prepared(folder: Path, flags: list[str]):
    config = ["--config-file", "configs/dyhead_swint.yaml", *flags]
    values = ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", str(folder)]
    return prepare(argument_parser().parse_args([*config, *values])).cfg


def test_training_data_are_parsed_once_and_evaluation_data_twice(tmp_path, parses):
    train, val = annotations(tmp_path, "train"), annotations(tmp_path, "val")
    flags = ["--train", f"{train}:{train.parent}", "--val", f"{val}:{val.parent}"]
    parses.clear()
    cfg = prepared(tmp_path / "out", flags)
    next(iter(build_train_loader(cfg)))
    build_test_loader(cfg, "val")
    assert (parses[train.read_text()], parses[val.read_text()]) == (1, 1)


def test_a_file_that_is_split_by_a_share_is_parsed_once(tmp_path, parses):
    train = annotations(tmp_path, "train")
    parses.clear()
    cfg = prepared(tmp_path / "out", ["--train", f"{train}:{train.parent}", "--val", "0.25"])
    next(iter(build_train_loader(cfg)))
    build_test_loader(cfg, "val")
    assert parses[train.read_text()] == 1


def test_data_that_were_taken_are_read_anew_the_next_time(tmp_path, parses):
    train = annotations(tmp_path, "train")
    parses.clear()
    prepared(tmp_path / "out", ["--train", f"{train}:{train.parent}"])
    first, second = (DatasetCatalog.get("train") for _ in range(2))
    assert first == second
    assert first[0] is not second[0]
    assert parses[train.read_text()] == 2


def test_what_was_read_can_be_forgotten(tmp_path, parses):
    train = annotations(tmp_path, "train")
    parses.clear()
    prepared(tmp_path / "out", ["--train", f"{train}:{train.parent}"])
    forget_datasets()
    DatasetCatalog.get("train")
    assert parses[train.read_text()] == 2


@pytest.mark.slow
def test_spawned_workers_read_no_annotations(tmp_path):
    train = annotations(tmp_path, "train")
    cfg = prepared(tmp_path / "out", ["--train", f"{train}:{train.parent}"])
    cfg.DATALOADER.NUM_WORKERS = 1
    loader = build_train_loader(cfg)
    loader.multiprocessing_context = "spawn"
    train.unlink()
    assert len(next(iter(loader))) == cfg.SOLVER.IMS_PER_BATCH
