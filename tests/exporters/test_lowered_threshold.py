"""A threshold at which detectors that detect nothing have boxes to compare."""

import pytest
import torch

from d2ext.exporters import exporter_for
from d2ext.exporters.check import compare_detections
from d2ext.exporters.exported_module import build_exported_module
from d2ext.exporters.lowered_threshold import FEWEST, MOST, add_noise, lowered_threshold
from tests.exporters.test_rcnn import CASCADE, PYRAMID
from tests.helpers.detectors import some_images, tiny_detector
from tests.helpers.runtime_rcnn import tiny_model


def unsure(name: str):
    """Build the exporter of a model whose threshold is above all scores."""
    if name in ("ATSS", "FCOS", "RetinaNet"):
        model = tiny_detector(name)[0]
    else:
        model = tiny_model(**{**PYRAMID, **(CASCADE if name == "cascade" else {})}).eval()
    exporter = exporter_for(model)
    exporter.set_score_threshold(0.99)
    return exporter


def candidates(exporter, images) -> list[int]:
    """Count the candidates per image."""
    levels = exporter.decode(exporter.head(exporter.normalize(images))).scores
    return sum((level > 0).flatten(1).sum(1) for level in levels).tolist()


@torch.no_grad()
@pytest.mark.parametrize("name", ["ATSS", "FCOS", "RetinaNet", "R-CNN", "cascade"])
def test_model_and_export_have_the_same_detections_above_it(name):
    exporter, batches = unsure(name), [some_images(1, 160, 128), some_images(2, 160, 192)]
    module = build_exported_module(exporter, "inside", "inside", for_onnx=False).eval()
    assert not any(map(len, exporter.detect(batches[1])))
    with exporter.score_threshold(lowered_threshold(exporter, batches)):
        counts = [count for images in batches for count in candidates(exporter, images)]
        assert FEWEST <= max(counts) <= MOST
        for images in batches:
            found = compare_detections(module(images), exporter.detect(images))
            assert not found.fault
            assert found.count > 0
    assert not any(map(len, exporter.detect(batches[1])))


def test_noise_keeps_the_range_and_type_of_pixels():
    blank = torch.tensor([0, 255], dtype=torch.uint8).repeat(50)
    noisy = add_noise(blank)
    assert noisy.dtype == torch.uint8
    assert 0 < (noisy.int() - blank.int()).abs().max() <= 8
