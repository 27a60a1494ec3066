"""A project adds kinds of cases, settings and outputs of detectors without an edit in d2ext."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from d2ext.errors import DataError
from d2ext.parity import Case, detector_outputs, readers, register_parity_reader, run_case, settings
from d2ext.parity.detector_outputs import (
    DetectorOutputs,
    FCOSOutputs,
    outputs_for,
    register_detector_outputs,
)
from d2ext.parity.settings import Section, detector_config, register_parity_settings
from detectron2.config import CfgNode

FOLDER = Path(__file__).parent


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    monkeypatch.setattr(readers, "_READERS", list(readers._READERS))
    monkeypatch.setattr(settings, "_PARTS", dict(settings._PARTS))
    monkeypatch.setattr(
        detector_outputs._OUTPUTS, "_values", dict(detector_outputs._OUTPUTS._values)
    )


@pytest.fixture
def case_folder(tmp_path):
    facts = {"config": {"doubled": 3}, "outputs": {"sum": {}}, "tolerance": {}, "scale": {}}
    (tmp_path / "case.json").write_text(json.dumps(facts))
    (tmp_path / "entries.json").write_text("[]")
    np.savez(tmp_path / "golden.npz", sum=np.float32(6))
    return tmp_path


def double(case: Case) -> dict[str, torch.Tensor]:
    return {"sum": torch.tensor(2.0 * case.config["doubled"])}


def test_a_registered_reader_computes_its_kind_of_case(case_folder):
    with pytest.raises(DataError, match=r"no reader .*: doubled\."):
        run_case(case_folder)
    register_parity_reader(lambda facts: "doubled" in facts["config"], double)
    (comparison,) = run_case(case_folder)
    assert comparison.passed


def test_the_last_reader_that_recognises_a_case_reads_it(case_folder):
    register_parity_reader(lambda facts: True, double)
    register_parity_reader(lambda facts: True, lambda case: {"sum": torch.tensor(7.0)})
    (comparison,) = run_case(case_folder)
    assert not comparison.passed


def add_toy_config(cfg: CfgNode) -> None:
    cfg.MODEL.TOY = CfgNode({"WIDTH": 1, "LEVELS": 0})


def test_settings_of_a_projects_head_reach_its_section():
    def set_levels(cfg, given, shapes):
        cfg.MODEL.TOY.LEVELS = len(shapes)
        cfg.MODEL.DENSE_HEAD.NAME = "ToyHead"

    case = Case(FOLDER / "fcos_r50")
    given = deepcopy(case.config)
    del given["fcos"]
    given["toy"] = {"breadth": 7}
    with pytest.raises(DataError, match=r"config\.toy: not known here"):
        detector_config(given, {})
    section = Section("MODEL.TOY", renamed={"breadth": "WIDTH"})
    register_parity_settings(
        "toy", section, rule=set_levels, architecture="DenseDetector", add_config=add_toy_config
    )
    cfg = detector_config(given, {"a": [1], "b": [2]})
    assert (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DENSE_HEAD.NAME) == ("DenseDetector", "ToyHead")
    assert (cfg.MODEL.TOY.WIDTH, cfg.MODEL.TOY.LEVELS) == (7, 2)


def test_outputs_belong_to_a_head_or_to_a_model():
    class ToyHead(nn.Module):
        pass

    class ToyModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = ToyHead()

    case = Case(FOLDER / "fcos_r50")
    with pytest.raises(DataError, match="no outputs are registered for ToyModel"):
        outputs_for(case, ToyModel())

    class ModelOutputs(DetectorOutputs):
        pass

    register_detector_outputs(ToyModel, ModelOutputs)

    assert type(outputs_for(case, ToyModel())) is ModelOutputs
    register_detector_outputs(ToyHead, FCOSOutputs)
    assert type(outputs_for(case, ToyModel())) is FCOSOutputs
