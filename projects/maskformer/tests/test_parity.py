"""Our models give what their authors' code gives: every output, loss and gradient of every case."""

import json
from pathlib import Path

import pytest

import d2ext
from d2ext.parity import run_case

FOLDER = Path(d2ext.__file__).parents[1] / "tests/parity"
CASES = [
    "maskformer_r50_ade20k",
    "maskformer_panoptic_r50_coco",
    "mask2former_r50_coco_instance",
    "mask2former_r50_ade20k_semantic",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_output_is_the_authors(name):
    comparisons = run_case(FOLDER / name)
    assert len(comparisons) == len(json.loads((FOLDER / name / "case.json").read_text())["outputs"])
    assert [comparison for comparison in comparisons if not comparison.passed] == []
