"""Cases with other settings than those of the tests are honoured."""

import json
import shutil
from pathlib import Path

import pytest

import d2ext
from d2ext.modeling.dense_heads import PostProcess
from d2ext.projects.yolo_fastest.parity import RecipeCase

FOLDER = Path(d2ext.__file__).parents[1] / "tests/parity/yolo_fastest_v2"


@pytest.fixture
def case(tmp_path):
    """The case with other settings."""
    folder = Path(shutil.copytree(FOLDER, tmp_path / "case"))
    facts = json.loads((folder / "case.json").read_text())
    facts["config"].update(classes=7, neck_channels=48, conf_threshold=0.2, nms_iou=0.6)
    facts["config"].update(max_detections=11, anchor_match_ratio=3.0, batch_norm_eps=0.001)
    facts["config"]["loss_weights"].update(box=1, obj_balance=[2.0, 3.0])
    facts["input"].update(height=96, width=64)
    (folder / "case.json").write_text(json.dumps(facts))
    return RecipeCase(folder)


def test_settings_reach_the_model(case):
    model = case.model()
    head = model.head
    assert head.classes.weight.shape == (7, 48, 1, 1)
    assert head.postprocess == PostProcess(0.2, None, 0.6, 11)
    assert (head.match_ratio, head.box_weight) == (3.0, 1.0)
    assert head.objectness_weights == [128.0, 192.0]
    assert model.backbone.bottom_up.stem.norm.eps == 0.001


def test_the_size_and_the_number_of_boxes_are_those_of_the_case(case):
    batch = case.batch()
    assert [item["image"].shape for item in batch] == [(3, 96, 64)] * 2
    assert [len(item["instances"]) for item in batch] == [8, 6]
