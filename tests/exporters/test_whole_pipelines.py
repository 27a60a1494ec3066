"""Exported files find in whole images what the model finds, from pixels to boxes."""

from functools import partial

import numpy as np
import pytest
import torch

from d2ext.data.augmentation.resize import ResizeShortestEdge, ResizeTo
from d2ext.exporters import exporter_for
from d2ext.exporters.check import compare_pipelines
from d2ext.exporters.exported_module import build_exported_module
from d2ext.exporters.file_detector import FileDetector
from d2ext.exporters.formats import load, save
from tests.exporters.test_rcnn import PYRAMID
from tests.helpers.detectors import some_images, tiny_detector
from tests.helpers.runtime_rcnn import tiny_model

METADATA = {
    "classes": [],
    "channel_order": "BGR",
    "resize": "shortest_edge",
    "size": None,
    "frame": None,
    "shortest": 150,
    "longest": 260,
    "stride": 1,
    "clip": True,
    "padding": [100.0, 110.0, 120.0],
}


def traced(model, path) -> FileDetector:
    module = build_exported_module(exporter_for(model), "inside", "inside", for_onnx=False).eval()
    with torch.no_grad():
        module(some_images(2, 251, 317))
    save(module, some_images(2, 251, 317), True, {}, "torchscript", path)
    metadata = {**METADATA, "outputs": list(module.output_names)}
    return FileDetector(load(path, "torchscript"), metadata)


SHORTEST = ResizeShortestEdge([150, 150], 260)


def predicted(model, image, resizing=SHORTEST):
    """What prediction does, by hand."""
    pixels = resizing.get_transform(image).apply_image(image)
    tensor = torch.as_tensor(pixels[:, :, ::-1].transpose(2, 0, 1).copy())
    height, width = image.shape[:2]
    return model([{"image": tensor, "height": height, "width": width}])[0]["instances"]


@pytest.mark.parametrize("name", ["DyHead", "FCOS", "R-CNN"])
def test_boxes_are_those_of_prediction_where_it_has_to_pad(name, tmp_path):
    model = tiny_model(**PYRAMID).eval() if name == "R-CNN" else tiny_detector(name)[0]
    file = traced(model, tmp_path / "model.pt")
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3), np.uint8) for size in ((60, 71), (97, 44))]
    for found in compare_pipelines(file, lambda image: predicted(model, image), images):
        assert not found.fault
        assert ": 0 detections" not in found.text


def test_padding_that_prediction_does_not_have_is_a_fault(tmp_path):
    model = tiny_detector("DyHead")[0]
    file = traced(model, tmp_path / "model.pt")
    file.metadata = {**file.metadata, "stride": 256}
    image = np.random.default_rng(0).integers(0, 256, (60, 71, 3), np.uint8)
    (found,) = compare_pipelines(file, lambda image: predicted(model, image), [image])
    assert "have no counterpart" in found.fault


@pytest.mark.parametrize("stretch", [True, False])
def test_images_fitted_into_a_frame_are_padded_as_prediction_pads_them(stretch, tmp_path):
    model = tiny_detector("DyHead")[0]
    file = traced(model, tmp_path / "model.pt")
    resize = "stretch" if stretch else "letterbox"
    file.metadata = {**file.metadata, "resize": resize, "frame": [150, 170]}
    resizing = ResizeTo(170, 150, stretch=stretch)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3), np.uint8) for size in ((60, 110), (97, 44))]
    detect = partial(predicted, model, resizing=resizing)
    for found in compare_pipelines(file, detect, images):
        assert not found.fault
        assert ": 0 detections" not in found.text
