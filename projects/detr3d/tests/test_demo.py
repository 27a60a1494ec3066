"""tools/demo.py takes nuScenes folders, data sets and sample tokens for DETR3D."""

import json

import pytest
import torch
from PIL import Image

from d2ext.cli.demo import main
from d2ext.config import load_config
from d2ext.errors import ConfigError, DataError
from d2ext.projects.detr3d.data.made_up import write_made_up
from d2ext.projects.detr3d.demo import as_json, find_samples
from d2ext.projects.detr3d.modeling.decoding import SpaceDetections
from d2ext.projects.detr3d.tests.conftest import CONFIG


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A nuScenes folder of one training scene and two validation scenes of one sample."""
    folder = tmp_path_factory.mktemp("nuscenes")
    write_made_up(folder, train_scenes=1, validation_length=1)
    return folder


@pytest.fixture
def run(build, tmp_path):
    """Calls the command with words of --input; returns the output folder."""
    torch.save({"model": build().state_dict()}, tmp_path / "weights.pth")

    def call(*words, confidence=0.0, source="--input"):
        base = [
            "--config-file",
            CONFIG,
            source,
            *map(str, words),
            "--output",
            str(tmp_path / "out"),
        ]
        options = ["--confidence", str(confidence), "MODEL.DEVICE", "cpu"]
        main([*base, *options, "MODEL.WEIGHTS", str(tmp_path / "weights.pth")])
        return tmp_path / "out"

    return call


def tokens(words):
    return [item["image_id"] for item in find_samples(list(map(str, words)), load_config(CONFIG))]


def test_a_folder_gives_a_picture_and_boxes_per_validation_sample(run, folder):
    output = run(folder)
    samples = json.loads((output / "predictions.json").read_text())["samples"]
    assert [each["sample"] for each in samples] == ["scene-0103-000", "scene-0916-000"]
    for each in samples:
        assert Image.open(output / each["picture"]).size == (3 * 450 + 540, 540)
        assert len(each["detections"]) > 10
        assert {len(found["centre"]) for found in each["detections"]} == {3}


def test_a_confidence_of_one_leaves_no_detection(run, folder):
    content = json.loads((run(folder, confidence=1.0) / "predictions.json").read_text())
    assert [each["detections"] for each in content["samples"]] == [[], []]


def test_a_token_selects_a_sample_of_any_split(folder):
    assert tokens([folder, "scene-2000-002"]) == ["scene-2000-002"]
    assert tokens(["scene-0916-000", folder, "scene-2000-002"]) == [
        "scene-0916-000",
        "scene-2000-002",
    ]


def test_a_token_alone_is_looked_up_in_the_data_sets_of_the_config(folder, monkeypatch):
    from detectron2.data import DatasetCatalog

    items = find_samples([str(folder)], load_config(CONFIG))
    monkeypatch.setattr(DatasetCatalog, "get", lambda name: items if name.endswith("val") else [])
    assert tokens(["scene-0916-000"]) == ["scene-0916-000"]
    assert tokens(["made_up_scenes_val"]) == ["scene-0103-000", "scene-0916-000"]


def test_unknown_tokens_and_folders_without_tables_are_named(folder, tmp_path):
    with pytest.raises(DataError, match="--input abc: no such file or folder, and no sample of"):
        tokens([folder, "abc"])
    with pytest.raises(DataError, match="no nuScenes folder"):
        tokens([tmp_path])


def test_unreadable_images_are_named_after_all_others_are_done(run, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    write_made_up(folder, train_scenes=1, validation_length=1)
    (folder / "samples/CAM_BACK/scene-0103-000.png").write_text("no image")
    with pytest.raises(DataError, match=r"1 of 2 samples left out: .*CAM_BACK/scene-0103-000\.png"):
        run(folder)
    assert (tmp_path / "out" / "scene-0916-000.jpg").is_file()


def test_a_camera_is_refused(run):
    with pytest.raises(ConfigError, match="DETR3D does not take single images"):
        run(0, source="--camera")


def test_boxes_are_written_with_the_yaw_of_their_length():
    boxes = torch.tensor([[1.0, 2, 3, 0.5, 4, 1.5, -torch.pi / 2 - 0.25, 1, 0]])
    (found,) = as_json(SpaceDetections(boxes, torch.tensor([0.75]), torch.tensor([8])))
    assert found == {
        **{"centre": [1, 2, 3], "size": [0.5, 4, 1.5], "yaw": 0.25, "velocity": [1, 0]},
        **{"score": 0.75, "class_id": 8, "class_name": "pedestrian"},
    }
