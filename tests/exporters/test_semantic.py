"""Semantic segmentation: files of any size give the scores that the model gives."""

from pathlib import Path

import pytest
import torch

from d2ext.errors import ConfigError
from d2ext.exporters import exporter_for
from d2ext.exporters.formats import load_with_metadata
from d2ext.exporters.run import ExportOptions, export_model
from detectron2.modeling import PanopticFPN, build_model
from tests.exporters.test_rcnn import PYRAMID
from tests.helpers.detectors import some_images, tiny_detector
from tests.helpers.models import tiny_config
from tests.helpers.runtime_rcnn import tiny_model


def semantic_model():
    cfg = tiny_config()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.BACKBONE.NAME = "SemanticSegmentor", "ExportPyramid"
    head = cfg.MODEL.SEM_SEG_HEAD
    head.IN_FEATURES, head.COMMON_STRIDE = ["p3", "p4", "p5"], 8
    head.NUM_CLASSES, head.CONVS_DIM, head.NORM = 4, 32, "GN"
    cfg.MODEL.PIXEL_STD = [58.0, 58.0, 58.0]
    torch.manual_seed(0)
    return build_model(cfg).eval(), cfg


def _no_boxes(image):
    raise AssertionError("scores of pixels are no boxes")


def test_a_file_gives_the_scores_of_the_model_at_sizes_that_it_pads(tmp_path: Path) -> None:
    model, cfg = semantic_model()
    options = ExportOptions("torchscript", tmp_path / "model.pt")
    lines = list(export_model(options, cfg, model, ["a"], options.output, _no_boxes, list("abcd")))
    assert [line.partition("sem_seg")[1] for line in lines] == ["sem_seg"] * 2
    (image,) = some_images(1, 61, 75)
    run, metadata = load_with_metadata(options.output, "torchscript")
    (found,) = run(image[None])
    with torch.no_grad():
        expected = model([{"image": image, "height": 61, "width": 75}])[0]["sem_seg"]
    assert metadata["classes"] == list("abcd")
    assert (metadata["stride"], found.shape) == (1, (1, 4, 61, 75))
    torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=1e-4)


def test_models_that_files_cannot_hold_are_refused_with_what_can_be_done(monkeypatch) -> None:
    model = tiny_model(**PYRAMID)
    model.__class__ = PanopticFPN
    with pytest.raises(ConfigError, match=r"GeneralizedRCNN` exports its boxes and masks alone"):
        exporter_for(model)
    detector = tiny_detector("ATSS")[0]
    monkeypatch.setattr(type(detector.head), "rotated", True)
    with pytest.raises(ConfigError, match=r"Predict with d2ext-demo or the Python API"):
        exporter_for(detector)
