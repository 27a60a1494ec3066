"""The published files go into our model."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import d2ext
from d2ext.checkpoint import Checkpointer, convert_official, load_for_evaluation
from d2ext.config import load_config
from d2ext.inference.predictor import Predictor
from d2ext.parity import recipe, run_case
from detectron2.data.detection_utils import read_image

ROOT = Path(d2ext.__file__).parents[1]
CONFIG = "projects/yolo_fastest/configs/yolo_fastest_v2_coco.yaml"
# The published weights and photos are not ours to ship: a reference case of them lies elsewhere.
REAL = Path(os.environ.get("D2EXT_YOLO_FASTEST_CASE", "nowhere"))
with_photos = pytest.mark.skipif(not REAL.is_dir(), reason="D2EXT_YOLO_FASTEST_CASE is not set")


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    """Made-up values under the names of the published file, counters too."""
    text = (ROOT / "tests/parity/yolo_fastest_v2/entries.json").read_text(encoding="utf-8")
    entries = json.loads(text)
    counters = {name: torch.tensor(7) for name, _, dtype in entries if dtype == "int64"}
    return {**recipe.fill_state_dict(entries), **counters}


def saved(weights: dict[str, torch.Tensor], folder: Path) -> str:
    torch.save(weights, folder / "published.pth")
    return str(folder / "published.pth")


def test_every_tensor_of_the_file_has_a_place(build, published, tmp_path):
    model = build(NUM_CLASSES=80)
    load_for_evaluation(model, saved(published, tmp_path))
    loaded = model.state_dict()
    for name, value in convert_official(published, loaded).items():
        assert torch.equal(loaded[name], value), name
    assert torch.equal(model.head.box.weight, published["output_reg_layers.weight"])
    assert torch.equal(
        model.backbone.branches["stage4_class"][3].norm.running_var,
        published["fpn.cls_head_3.block.9.running_var"],
    )


def test_another_class_count_keeps_what_fits(build, published, tmp_path, caplog):
    model = build(NUM_CLASSES=5)
    fresh = model.head.classes.weight.clone()
    Checkpointer(model).load(saved(published, tmp_path), checkpointables=[])
    assert "2 left fresh, of another shape: head.classes.weight" in caplog.text
    assert torch.equal(model.head.classes.weight, fresh)
    assert torch.equal(model.head.objectness.bias, published["output_obj_layers.bias"])


def test_a_bare_backbone_is_loaded_into_the_detector(build, published, tmp_path, caplog):
    prefix = "backbone."
    bare = {n.removeprefix(prefix): v for n, v in published.items() if n.startswith(prefix)}
    assert len(bare) == 330
    model = build()
    with caplog.at_level("INFO"):
        Checkpointer(model).load(saved(bare, tmp_path), checkpointables=[])
    assert "330 tensors matched" in caplog.text
    unit = model.backbone.bottom_up.stage3[3]
    assert torch.equal(unit.main[2].weight, bare["stage3.3.branch_main.5.weight"])


@with_photos
def test_the_published_weights_find_what_their_own_code_finds():
    weights = str(REAL / "coco2017-0.241078ap-model.pth")
    predictor = Predictor(load_config(CONFIG, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", weights]))
    expected = json.loads((REAL / "expected_detections.json").read_text(encoding="utf-8"))
    for name, detections in expected["detections"].items():
        found = predictor(read_image(str(REAL / name), "RGB"))["instances"]
        found = found[found.scores > expected["threshold"]]
        assert found.pred_classes.tolist() == [d["class_index"] for d in detections]
        boxes = np.array([d["box"] for d in detections])
        scores = np.array([d["score"] for d in detections])
        np.testing.assert_allclose(found.pred_boxes.tensor.numpy(), boxes, atol=0.05)
        np.testing.assert_allclose(found.scores.numpy(), scores, atol=1e-4)


@with_photos
def test_every_number_of_the_published_weights_is_theirs():
    assert [c for c in run_case(REAL) if not c.passed] == []
