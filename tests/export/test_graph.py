"""The exported graphs, run by PyTorch, give what the models give."""

import pytest
import torch

from d2ext.errors import ConfigError
from d2ext.export import exporter_for
from d2ext.export.check import compare_detections
from d2ext.export.graph import best_of_levels, build_graph, clipped, padded_topk
from d2ext.modeling.dense_heads import LevelPredictions
from tests.helpers.detectors import some_images, tiny_detector

NAMES = ["RetinaNet", "ATSS", "FCOS", "DyHead"]


@pytest.fixture(scope="module", params=NAMES)
def exporter(request):
    model, _ = tiny_detector(request.param)
    return exporter_for(model)


@torch.no_grad()
def test_detections_are_those_of_the_model(exporter):
    images = some_images(3, 256, 384)
    graph = build_graph(exporter, "inside", "inside", for_onnx=False)
    expected = exporter.detect(images)
    difference = compare_detections(graph(images), expected)
    assert not difference.fault
    assert "missing" not in difference.text
    assert all(len(instances) >= 5 for instances in expected)


@torch.no_grad()
def test_candidates_hold_every_detection(exporter):
    images = some_images(2, 256, 256)
    boxes, scores = build_graph(exporter, "none", "inside", for_onnx=False)(images)
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
    graph = build_graph(exporter, "none", "none", for_onnx=False)
    tensors = graph(images)  # names the outputs
    outputs = dict(zip(graph.output_names, tensors, strict=True))
    raw = exporter.head(exporter.normalize(images))
    assert list(outputs) == list(raw)
    cells = outputs["logits"].shape[1]
    for name, levels in raw.items():
        shape = (cells,) if name in ("anchors", "locations") else (2, cells)
        assert outputs[name].shape[: len(shape)] == shape
        assert outputs[name].flatten()[0] == levels[0].flatten()[0]


def test_suppression_needs_decoding(exporter):
    with pytest.raises(ConfigError, match="--nms none"):
        build_graph(exporter, "inside", "none", for_onnx=False)


def test_the_best_of_each_level_carry_their_class():
    boxes = torch.arange(8.0).view(1, 2, 4)
    scores = torch.tensor([[[0.1, 0.9, 0.0], [0.8, 0.2, 0.3]]])
    levels = LevelPredictions([boxes, boxes], [scores, scores])
    found, best, classes = best_of_levels(levels, topk=2)
    torch.testing.assert_close(best, torch.tensor([[0.9, 0.8, 0.9, 0.8]]))
    assert classes.tolist() == [[1, 0, 1, 0]]
    assert found[0, :2].tolist() == boxes[0].tolist()


def test_too_few_scores_are_filled_with_zeros():
    best, index = padded_topk(torch.tensor([[0.5, 0.7]]), 4)
    torch.testing.assert_close(best, torch.tensor([[0.7, 0.5, 0.0, 0.0]]))
    assert index[0, :2].tolist() == [1, 0]
    assert index.max() < 2
