"""Files that run without d2ext give what the model gives."""

import pytest
import torch

from d2ext.config import load_config
from d2ext.errors import ConfigError
from d2ext.exporters.formats import load
from d2ext.exporters.run import ExportOptions, export_model
from d2ext.projects.maskformer.tests.conftest import ALL_TASKS, CONFIG, some_images


def export(model, path, kind: str = "onnx", **options) -> list[str]:
    wanted = ExportOptions(kind, path, **options)
    cfg = load_config(CONFIG)
    return list(export_model(wanted, cfg, model.eval(), ["a"], path, _no_boxes))


def _no_boxes(image):
    raise AssertionError("a file of masks has no boxes to compare")


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["maskformer_encoder", "mask2former", "per_pixel_plus"])
def test_onnx_files_of_any_size_give_the_scores_of_pixels(build, variant, tmp_path):
    pytest.importorskip("onnxscript")
    model = build(variant)
    lines = export(model, tmp_path / "model.onnx")
    assert len(lines) == 2
    (batch,) = some_images((64, 96))
    with torch.no_grad():
        expected = model.eval()([{**batch, "height": 64, "width": 96}])[0]["sem_seg"]
    (found,) = load(tmp_path / "model.onnx", "onnx")(batch["image"][None])
    torch.testing.assert_close(found[0], expected, atol=1e-3, rtol=1e-3)


def test_models_of_instances_and_segments_give_scores_and_masks_of_queries(build, tmp_path):
    model = build("mask2former", *ALL_TASKS)
    lines = export(model, tmp_path / "model.pt", "torchscript", size=(64, 96))
    assert "scores" in lines[0]
    scores, masks = torch.jit.load(tmp_path / "model.pt")(torch.rand(1, 3, 64, 96) * 255)
    assert scores.shape == (1, 7, 5)
    assert masks.shape == (1, 7, 16, 24)


def test_average_precision_of_boxes_cannot_be_measured(build, tmp_path):
    with pytest.raises(ConfigError, match="AP and 8-bit ranges are for files with boxes"):
        export(build("mask2former"), tmp_path / "model.onnx", dataset="val")
