"""The three samples in tests/data/samples: their known issues, as the whole text of the report."""

import json
from pathlib import Path

import pytest

from d2ext.cli.check_data import main

SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture(autouse=True)
def _in_the_samples(tmp_path, monkeypatch):
    """Paths in the reports are relative to the samples."""
    monkeypatch.setenv("D2EXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(SAMPLES)


@pytest.mark.parametrize("name", ["coco", "voc", "yolo"])
def test_the_report_of_a_sample_is_known_word_for_word(name, capsys):
    assert main([name, "--show", "99"]) == 1
    assert capsys.readouterr().out == Path(f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["coco", "voc", "yolo"])
def test_a_fixed_copy_has_none_of_the_issues_that_can_be_fixed(name, tmp_path):
    main([name, "--report", str(tmp_path / "before.json"), "--fix", str(tmp_path / "fixed")])
    fixable = {kind["code"] for kind in read(tmp_path / "before.json") if kind["fix"]}
    paths = [f"{tmp_path}/fixed/{s}.json:{tmp_path}/fixed/images/{s}" for s in ("train", "val")]
    main([paths[0], "--val", paths[1], "--report", str(tmp_path / "after.json")])
    left = {kind["code"] for kind in read(tmp_path / "after.json")}
    assert len(fixable) > 2
    # A class stays if another data set has objects of it.
    assert not left & fixable - {"class-unused"}


def read(path: Path) -> list[dict]:
    return json.loads(path.read_text())["issues"]
