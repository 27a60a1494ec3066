"""d2ext-benchmark: AP and latency of weights and exported files on one data set."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import d2ext
from d2ext.cli.benchmark_models import argument_parser, main
from d2ext.errors import ConfigError, DataError, WeightsError
from detectron2.data import DatasetCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from tests.helpers.onnx_files import write_one_box_file


@META_ARCH_REGISTRY.register()
class HalfRightFinder(nn.Module):
    """Finds the box of the data below, but in every second image only."""

    key = "instances"

    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls = 0

    def forward(self, batch):
        (item,) = batch
        self.calls += 1
        found = Instances((item["height"], item["width"]))
        found.pred_boxes = Boxes(torch.tensor([[32.0, 32.0, 96.0, 128.0]]))
        found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([1])
        return [{self.key: found[: self.calls % 2]}]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with data of the box that the file finds, the file in two formats, and weights."""
    monkeypatch.chdir(tmp_path)
    images = [{"id": n, "file_name": f"{n}.png", "width": 160, "height": 128} for n in range(1, 5)]
    for image in images:
        Image.fromarray(np.full((128, 160, 3), (0, 0, 255), np.uint8)).save(image["file_name"])
    shared = {"bbox": [32, 32, 64, 96], "area": 64 * 96, "iscrowd": 0, "category_id": 2}
    annotations = [{"id": n, "image_id": n, **shared} for n in range(1, 5)]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "data.json").write_text(json.dumps(content))
    (tmp_path / "config.yaml").write_text("MODEL: {META_ARCHITECTURE: HalfRightFinder}\n")
    torch.save({"model": {"weight": torch.zeros(1)}, "thing_classes": ["a", "b"]}, "weights.pth")
    write_one_box_file(tmp_path / "model.onnx")
    return tmp_path


def run(*models, options=()):
    base = ["--config-file", "config.yaml", "--device", "cpu", "--threads", "1"]
    main([*models, "--data", "data.json:.", *base, "--json", "out.json", *options])
    with open("out.json", encoding="utf-8") as file:
        return json.load(file)


def test_models_and_files_are_measured_side_by_side(folder, capsys):
    files = ["weights.pth", "model.onnx"]
    if find_spec("openvino"):
        from d2ext.exporters.openvino_file import save_openvino

        save_openvino(folder / "model.onnx", folder / "model.xml")
        files.append("model.xml")
    found = run(*files)
    assert [each["model"] for each in found] == files
    assert [each["format"] for each in found] == ["pytorch", "onnx", "openvino"][: len(files)]
    assert [each["ap"]["bbox"]["AP50"] for each in found[1:]] == [100.0] * (len(files) - 1)
    assert 40 < found[0]["ap"]["bbox"]["AP50"] < 60
    assert (
        found[0]["ap"]["bbox"]["APl"] is None
    )  # there is no large object: not NaN, which is no JSON
    for each in found:
        assert 0 < each["median_ms"] <= each["p90_ms"]
        assert each["images_per_second"] > 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    names = [line.split("|")[1].strip() for line in table]
    assert [names[0], *names[2:]] == ["model", *files]
    assert "mask AP" not in table[0]
    assert "benchmark" not in DatasetCatalog.list()


def test_the_python_api_gives_the_same_numbers(folder):
    (found,) = d2ext.benchmark(["model.onnx"], "data.json:.")
    assert found.ap["bbox"]["AP"] == 100.0
    assert found.megabytes == round((folder / "model.onnx").stat().st_size / 1e6, 1) or None


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("none.onnx", WeightsError, r"none\.onnx: no such file"),
        ("none.pth", WeightsError, r"none\.pth"),
        ("data.onnx", WeightsError, "nms"),
    ],
)
def test_a_wrong_model_is_one_message(folder, model, error, message):
    write_one_box_file(folder / "data.onnx", nms="none")
    with pytest.raises(error, match=message):
        run(model)
    assert not (folder / "out.json").exists()


def test_data_that_are_not_there_are_named_first(folder):
    with pytest.raises(DataError, match=r"none\.json"):
        main(["none.onnx", "--data", "none.json:images"])


def test_a_file_of_other_classes_is_refused(folder):
    write_one_box_file(folder / "other.onnx", classes=["cat", "dog"])
    with pytest.raises(WeightsError, match="only in the data: a, b"):
        run("other.onnx")


def test_a_model_without_boxes_is_refused(folder, monkeypatch):
    monkeypatch.setattr(HalfRightFinder, "key", "sem_seg")
    with pytest.raises(ConfigError, match="AP is of boxes; the model predicts sem_seg only"):
        run("weights.pth")


def test_help_shows_an_example():
    assert "model.onnx model.xml --data my/data" in argument_parser().format_help()
