"""The parts of `tools/benchmark.py learning` that decide on what is compared."""

import json
import random
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image


@pytest.fixture(scope="module", autouse=True)
def _tools_on_the_path():
    tools = str(Path(__file__).parents[2] / "tools")
    sys.path.insert(0, tools)
    yield
    sys.path.remove(tools)


@pytest.fixture
def data(tmp_path: Path) -> str:
    """One image of 40x20 with boxes of two classes, whose ids are not in order."""
    Image.new("RGB", (40, 20)).save(tmp_path / "one.png")
    boxes = {7: [0, 0, 10, 10], 3: [20, 5, 20, 10]}
    content = {
        "images": [{"id": 5, "file_name": "one.png", "width": 40, "height": 20}],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            *(
                {"id": i, "image_id": 5, "category_id": c, "bbox": b, "area": 100, "iscrowd": 0}
                for i, (c, b) in enumerate(boxes.items(), start=1)
            )
        ],
    }
    (tmp_path / "all.json").write_text(json.dumps(content))
    return f"{tmp_path / 'all.json'}:{tmp_path}"


def test_right_detections_score_100_and_none_score_0(data):
    from benchmarks.learning import score

    about = {"image_id": 5, "score": 0.9}
    right = [
        {**about, "category_id": 7, "bbox": [0, 0, 10, 10]},
        {**about, "category_id": 3, "bbox": [20, 5, 20, 10]},
    ]
    assert score(data, right) == pytest.approx((100, 100))
    half = [right[0], {**right[1], "bbox": [20, 5, 20, 6.2]}]  # IoU 0.62
    assert score(data, half) == pytest.approx((50 + 50 * 0.3, 100))
    assert score(data, []) == (0, 0)


def test_epochs_follow_from_minutes_and_pace(data, tmp_path):
    from benchmarks.learning import Problem

    problem = Problem(data, data, 2.0, {"d2ext": 30.0}, {}, tmp_path)
    assert problem.epochs("d2ext") == 60  # of one image


def test_a_package_runs_in_its_own_environment(data, tmp_path):
    from benchmarks.learning import WAYS, Problem

    python = {"libreyolo": "own/python", "mayaku": "another/python"}
    problem = Problem(data, data, 2.0, {"libreyolo": 3.0, "mayaku": 3.0}, python, tmp_path)
    command, results = WAYS["libreyolo"](problem)
    assert command[0] == "own/python"
    assert Path(command[1]).name == "learning_yolo.py"
    assert command[2:] == ["libreyolo", data, data, "6", "libreyolo.json"]
    assert results == "libreyolo.json"
    command, _ = WAYS["mayaku"](problem)
    assert command[0] == "another/python"
    assert command[2:] == [data, data, "6", "mayaku.json"]


def test_packages_without_an_environment_are_left_out_or_named():
    from benchmarks.learning import PACKAGES, _ways

    assert not set(PACKAGES) & set(_ways(None, {}))
    assert "mayaku" in _ways(None, {"mayaku": "python"})
    with pytest.raises(SystemExit, match="--python libreyolo=PYTHON"):
        _ways(["libreyolo"], {"mayaku": "python"})


def test_yolo_labels_count_classes_in_the_order_of_their_ids(data, tmp_path):
    from benchmarks.learning_yolo import write_yolo

    content = write_yolo(data, tmp_path / "yolo", "train")
    assert [category["name"] for category in content["categories"]] == ["cat", "dog"]
    label = (tmp_path / "yolo" / "labels" / "train" / "one.txt").read_text().splitlines()
    assert label == [
        "1 0.125000 0.250000 0.250000 0.500000",
        "0 0.750000 0.500000 0.500000 0.500000",
    ]
    assert (tmp_path / "yolo" / "images" / "train" / "one.png").exists()


def test_torchvision_gets_labels_from_1_and_flipped_boxes(data, monkeypatch):
    from benchmarks.learning_torchvision import example, read

    (item,), categories = read(data)
    assert categories == [3, 7]
    monkeypatch.setattr(random, "random", lambda: 0.0)
    image, target = example(item)
    assert image.shape == (3, 20, 40)
    assert target["labels"].tolist() == [2, 1]
    flipped = torch.tensor([[30.0, 0, 40, 10], [0, 5, 20, 15]])
    assert torch.equal(target["boxes"], flipped)
