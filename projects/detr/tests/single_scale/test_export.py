"""Exported files give what the models give, for any number of images."""

import pytest
import torch

from d2ext.errors import ConfigError
from d2ext.exporters import exporter_for
from d2ext.exporters.check import compare
from d2ext.exporters.exported_module import build_exported_module
from d2ext.exporters.formats import load, save

VARIANTS = ["detr", "conditional", "dab_3_patterns"]


def images(count: int, height: int = 96, width: int = 128) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator).float()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_traced_file_gives_what_the_model_gives_for_any_size(variant, build, tmp_path):
    module = build_exported_module(exporter_for(build(variant).eval()), "inside", "inside", False)
    save(module, images(2), True, {}, "torchscript", tmp_path / "model.pt")
    run = load(tmp_path / "model.pt", "torchscript")
    for difference in compare(run, module, [images(1), images(3), images(2, 160, 70)]):
        assert not difference.fault
        assert ": 0 detections" not in difference.text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "torch_export"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_program_gives_what_the_model_gives(variant, kind, build, tmp_path):
    exporter = exporter_for(build(variant).eval())
    module = build_exported_module(exporter, "inside", "inside", kind == "onnx")
    path = tmp_path / f"model.{kind}"
    save(module, images(2), False, {}, kind, path)
    for difference in compare(load(path, kind), module, [images(1), images(3)]):
        assert not difference.fault
        assert ": 0 detections" not in difference.text


@torch.no_grad()
def test_raw_outputs_are_those_of_the_queries(build):
    exporter = exporter_for(build("detr").eval())
    module = build_exported_module(exporter, "none", "none", for_onnx=False)
    logits, boxes = module(images(2))
    assert module.output_names == ("logits", "boxes")
    assert (logits.shape, boxes.shape) == ((2, 7, 4), (2, 7, 4))
    sizes = boxes[..., 2:] - boxes[..., :2]
    assert (sizes > 0).all()


def test_masks_are_not_exported(build):
    with pytest.raises(ConfigError, match="masks"):
        exporter_for(build("detr_masks").eval())
