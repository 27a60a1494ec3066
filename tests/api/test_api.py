"""The Python API: train, load, predict, evaluate, check and export."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import d2ext
from d2ext.errors import ConfigError, DataError
from tests.helpers.training import write_data

SMALL = {
    "MODEL.DYHEAD.NUM_BLOCKS": 1,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.IMS_PER_BATCH": 2,
    "INPUT.SIZE": (64, 64),
    "DATALOADER.NUM_WORKERS": 0,
    "TEST.PICTURES": 0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("data") / "set"
    write_data(folder)
    return f"{folder / 'annotations.json'}:{folder}"


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> d2ext.Run:
    output = tmp_path_factory.mktemp("run") / "output"
    return d2ext.train(data, val=data, epochs=0, output=output, device="cpu", quiet=True, **SMALL)


@pytest.fixture(scope="module")
def model(run) -> d2ext.Model:
    return run.load(device="cpu", **{"MODEL.ATSS.SCORE_THRESH_TEST": 0.0})


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_importing_d2ext_imports_no_pytorch():
    code = "import sys, d2ext; assert not {'torch', 'd2ext.api'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        d2ext.trian  # noqa: B018


def test_a_run_names_its_weights_and_metrics(run):
    assert run.weights.exists()
    assert run.folder.name == "output"
    assert {"total_loss", "bbox/AP"} <= set(run.metrics)


def test_a_second_run_gets_a_folder_of_its_own(run, data):
    keys = {**SMALL, "SOLVER.MAX_ITER": 1, "TEST.EVAL_PERIOD": 0}
    again = d2ext.train(data, epochs=0, output=run.folder, device="cpu", quiet=True, **keys)
    assert again.folder.name == "output_2"


def test_evaluation_gives_the_metrics_of_the_training(run, data, tmp_path):
    found = d2ext.evaluate(run.weights, data, output=tmp_path / "eval", device="cpu")
    assert found["bbox/AP"] == 0  # the model finds nothing
    assert found["bbox/APl"] is None  # and there is no large object
    measured = {name: value for name, value in found.items() if value is not None}
    assert {name: run.metrics[name] for name in measured} == measured


def test_images_of_all_kinds_give_the_same_prediction(model, image, tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(image).save(file)
    tensor = torch.as_tensor(image).permute(2, 0, 1)
    given = [image, tensor, Image.fromarray(image), file, str(file), tmp_path]
    first, *others = model.predict(given, confidence=0.0)
    assert len(first)
    assert first.instances.image_size == (40, 60)
    for other in others:
        assert torch.equal(other.instances.pred_boxes.tensor, first.instances.pred_boxes.tensor)
    assert others[-1].file == str(file)
    assert first.file == ""


def test_predictions_become_pictures_and_other_forms(model, image, tmp_path):
    (found,) = model.predict(image, confidence=0.0)
    assert found.plot(tmp_path / "a.jpg").size == Image.open(tmp_path / "a.jpg").size
    assert set(found.class_names) <= set(model.names) == {"cross", "dot"}
    (x0, y0, x1, y1), result = found.as_json()[0]["box"], found.to_coco(7)[0]
    assert result["image_id"] == 7
    assert result["bbox"] == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=0.011)
    assert result["category_id"] == found.as_json()[0]["class_id"] + 1
    assert found.to_coco(7, category_ids=[30, 40])[0]["category_id"] in (30, 40)


def test_detections_become_those_of_supervision(model, image):
    pytest.importorskip("supervision")
    (found,) = model.predict(image, confidence=0.0)
    other = found.to_supervision()
    assert len(other) == len(found)
    assert np.allclose(other.xyxy, found.instances.pred_boxes.tensor.numpy())
    assert list(other["class_name"]) == found.class_names


def test_without_supervision_the_message_says_what_to_install(model, image, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ConfigError, match="pip install supervision"):
        model.predict(image)[0].to_supervision()


@pytest.mark.parametrize(
    "wrong", [3, np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), torch.zeros(3, 4, 4)]
)
def test_what_is_no_image_is_refused(model, wrong):
    with pytest.raises(ConfigError, match="images:"):
        model.predict(wrong)


def test_files_that_cannot_be_read_are_named(model, tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"a\.jpg"):
        model.predict(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"images .*none\.jpg"):
        model.predict(tmp_path / "none.jpg")


def test_a_confidence_is_a_score(model, image):
    with pytest.raises(ConfigError, match="from 0 to 1"):
        model.predict(image, confidence=40)


def test_a_check_reports_issues(data):
    report = d2ext.check(data)
    assert "images" in report.text()


def test_wrong_values_are_user_errors_and_no_exits(data, tmp_path):
    with pytest.raises(ConfigError):
        d2ext.train(data, epochs=-1, output=tmp_path / "x", device="cpu")
    with pytest.raises(ConfigError):
        d2ext.train(data, output=tmp_path / "x", **{"SOLVER.NONE": 1})


def test_an_exported_file_is_returned(run, tmp_path):
    found = d2ext.export(run.weights, tmp_path / "model.pt", format="torchscript")
    assert found == Path(tmp_path / "model.pt")
    assert found.stat().st_size > 1e6
