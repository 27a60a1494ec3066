"""The exported graphs, run by PyTorch, give what the models give."""

import pytest
import torch

from d2ext.errors import ConfigError
from d2ext.exporters import exporter_for
from d2ext.exporters.check import compare_detections
from d2ext.exporters.exported_module import build_exported_module
from d2ext.exporters.selection import clipped
from tests.helpers.detectors import some_images, tiny_detector

NAMES = ["RetinaNet", "ATSS", "FCOS", "DyHead"]


@pytest.fixture(scope="module", params=NAMES)
def exporter(request):
    model, _ = tiny_detector(request.param)
    return exporter_for(model)


@torch.no_grad()
def test_detections_are_those_of_the_model(exporter):
    images = some_images(3, 256, 384)
    module = build_exported_module(exporter, "inside", "inside", for_onnx=False)
    expected = exporter.detect(images)
    difference = compare_detections(module(images), expected)
    assert not difference.fault
    assert "missing" not in difference.text
    assert all(len(instances) >= 5 for instances in expected)


@torch.no_grad()
def test_candidates_hold_every_detection(exporter):
    images = some_images(2, 256, 256)
    boxes, scores = build_exported_module(exporter, "none", "inside", for_onnx=False)(images)
    assert boxes.shape == (2, scores.shape[1], 4)
    assert scores.shape[2] == 3
    for image, found in enumerate(exporter.detect(images)):
        for box, score, label in zip(
            found.pred_boxes.tensor, found.scores, found.pred_classes, strict=True
        ):
            own = scores[image, :, label]
            place = int((own - score).abs().argmin())
            torch.testing.assert_close(own[place], score)
            torch.testing.assert_close(clipped(boxes[image, place], 256, 256), box)


@torch.no_grad()
def test_raw_outputs_are_those_of_the_head_over_all_levels(exporter):
    images = some_images(2, 256, 256)
    module = build_exported_module(exporter, "none", "none", for_onnx=False)
    tensors = module(images)  # names the outputs
    outputs = dict(zip(module.output_names, tensors, strict=True))
    raw = exporter.head(exporter.normalize(images))
    assert list(outputs) == list(raw)
    cells = outputs["logits"].shape[1]
    for name, levels in raw.items():
        shape = (cells,) if name in ("anchors", "locations") else (2, cells)
        assert outputs[name].shape[: len(shape)] == shape
        assert outputs[name].flatten()[0] == levels[0].flatten()[0]


def test_suppression_needs_decoding(exporter):
    with pytest.raises(ConfigError, match="--nms none"):
        build_exported_module(exporter, "inside", "none", for_onnx=False)
