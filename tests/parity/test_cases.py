"""Our models give what their authors' code gives: every output, loss and gradient of every case."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from d2ext._detectron2 import provider
from d2ext.cli.parity import main
from d2ext.errors import DataError
from d2ext.parity import run_case
from d2ext.parity.case import Case

FOLDER = Path(__file__).parent
BUNDLED_ONLY = pytest.mark.skipif(
    provider() == "official",
    reason="the official one has no gradient of deformable convolution on the CPU",
)


@pytest.mark.parametrize(
    "name",
    [
        "dyconv_block",
        "ms_deform_attn",
        "swin_t_backbone",
        "yolo_fastest_v2",
        "cascade_mask_rcnn_narrow",
        "keypoint_rcnn_narrow",
        "panoptic_fpn_narrow",
        "rpn_c4_narrow",
        pytest.param("dyhead_swint_atss", marks=pytest.mark.slow),
        pytest.param("dyhead_r50_retina", marks=pytest.mark.slow),
        pytest.param("atss_r50", marks=pytest.mark.slow),
        pytest.param("dyhead_r50_atss", marks=pytest.mark.slow),
        pytest.param("dyhead_r50_rcnn", marks=pytest.mark.slow),
        pytest.param("fcos_r50", marks=pytest.mark.slow),
        pytest.param("retinanet_r50_fpn", marks=pytest.mark.slow),
        pytest.param("faster_rcnn_r50_fpn", marks=pytest.mark.slow),
        pytest.param("mask_rcnn_r50_fpn", marks=pytest.mark.slow),
        pytest.param("rotated_faster_rcnn_r50_fpn", marks=pytest.mark.slow),
        pytest.param("mask_rcnn_r50_fpn_dconv", marks=[pytest.mark.slow, BUNDLED_ONLY]),
    ],
)
def test_every_output_is_the_authors(name):
    comparisons = run_case(FOLDER / name)
    assert len(comparisons) == len(json.loads((FOLDER / name / "case.json").read_text())["outputs"])
    assert [comparison for comparison in comparisons if not comparison.passed] == []


@pytest.mark.slow
def test_cases_of_the_dynamic_heads_authors_name_faster_rcnn_otherwise(tmp_path):
    folder = Path(shutil.copytree(FOLDER / "dyhead_r50_rcnn", tmp_path / "case"))
    facts = json.loads((folder / "case.json").read_text())
    golden = dict(np.load(folder / "golden.npz"))
    config = facts["config"]
    config["box_head"] = config.pop("roi_box_head")
    config["max_detections"] = config["roi_heads"].pop("max_detections")
    # The stored outputs of the second stage are of the stored proposals.
    regions = [golden.pop(f"proposals{index}.boxes").tolist() for index in range(2)]
    facts["input"]["fixed_proposals"] = regions
    renamed = {"rpn.logits.p3": "head.rpn_objectness.p3", "rpn.deltas.p3": "head.rpn_deltas.p3"}
    renamed |= {"roi.cls": "fixed.logits", "roi.deltas": "fixed.deltas"}
    limits = facts["tolerance"]
    facts["tolerance"] = {new: limits[old] for old, new in renamed.items()}
    facts["tolerance"]["det0.classes"] = "exact"
    facts["outputs"] = {key: {} for key in facts["tolerance"]}
    for old, new in renamed.items():
        parts = [key for key in golden if key.startswith(old)]
        golden |= {new + key.removeprefix(old): golden[key] for key in parts}
    (folder / "case.json").chmod(0o600)
    (folder / "case.json").write_text(json.dumps(facts))
    np.savez(folder / "golden.npz", **golden)
    assert [comparison for comparison in run_case(folder) if not comparison.passed] == []


def test_a_case_of_data_needs_no_entries(tmp_path):
    facts = {"config": {"version": 1}, "outputs": {}, "tolerance": {}}
    (tmp_path / "case.json").write_text(json.dumps(facts))
    np.savez(tmp_path / "golden.npz", boxes=np.zeros(4))
    with pytest.raises(DataError, match="no reader for a case with these settings: version"):
        run_case(tmp_path)


@pytest.fixture
def case_folder(tmp_path):
    """A copy of a small case, to be spoiled."""
    return Path(shutil.copytree(FOLDER / "dyconv_block", tmp_path / "case"))


def spoil(folder: Path, **changes: np.ndarray) -> None:
    golden = dict(np.load(folder / "golden.npz"))
    np.savez(folder / "golden.npz", **{**golden, **changes})


def test_an_output_beyond_its_tolerance_is_a_miss(case_folder):
    golden, limits = Case(case_folder).golden, Case(case_folder).facts["tolerance"]["loss.total"]
    total = golden["loss.total"]
    allowed = limits["atol"] + limits["rtol"] * abs(total)
    spoil(case_folder, **{"loss.total": total + 2 * allowed})
    missed = [comparison for comparison in run_case(case_folder) if not comparison.passed]
    assert [comparison.key for comparison in missed] == ["loss.total"]
    assert missed[0].error == pytest.approx(2, abs=0.1)


def test_nan_is_a_miss(case_folder):
    spoil(case_folder, **{"loss.total": np.float32(np.nan)})
    assert [c.key for c in run_case(case_folder) if not c.passed] == ["loss.total"]


def test_wrong_shapes_and_missing_outputs_are_misses_with_a_reason(case_folder):
    spoil(case_folder, **{"p6": np.zeros((1, 2), np.float32)})
    facts = json.loads((case_folder / "case.json").read_text())
    facts["outputs"]["p9"] = {}
    (case_folder / "case.json").chmod(0o600)
    (case_folder / "case.json").write_text(json.dumps(facts))
    problems = {c.key: c.problem for c in run_case(case_folder) if not c.passed}
    assert problems["p6"] == "its shape is (2, 64, 2, 3), the authors' (1, 2)"
    assert problems["p9"] == "our model has no such output"


def test_other_settings_are_honoured(case_folder):
    facts = json.loads((case_folder / "case.json").read_text())
    facts["config"]["channels"] = 32
    (case_folder / "case.json").chmod(0o600)
    (case_folder / "case.json").write_text(json.dumps(facts))
    with pytest.raises(RuntimeError, match="size mismatch"):
        run_case(case_folder)


def test_the_command_prints_a_line_per_output_and_fails_on_a_miss(case_folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["parity.py", str(case_folder)])
    with pytest.raises(SystemExit, match="0"):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("  ok  ") for line in lines) == len(
        Case(case_folder).facts["outputs"]
    )
    spoil(case_folder, **{"loss.total": np.float32(1e3)})
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "  MISS" in capsys.readouterr().out


def test_a_folder_without_a_case_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"case\.json missing"):
        run_case(tmp_path)
    (tmp_path / "case.json").write_text("{}")
    with pytest.raises(DataError, match=r"entries\.json, golden\.npz missing"):
        run_case(tmp_path)
