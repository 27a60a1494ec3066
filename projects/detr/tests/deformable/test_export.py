"""Exported files of models with deformable attention give what the models give."""

import pytest
import torch

from d2ext.exporters import exporter_for
from d2ext.exporters.check import compare
from d2ext.exporters.exported_module import build_exported_module
from d2ext.exporters.formats import load, save


def images(count: int, height: int = 96, width: int = 128) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator).float()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "torch_export"])
@pytest.mark.parametrize("variant", ["deformable", "two_stage", "dab", "dino"])
def test_a_program_gives_what_the_model_gives_for_any_number_of_images(
    variant, kind, build, tmp_path
):
    exporter = exporter_for(build(variant).eval())
    module = build_exported_module(exporter, "inside", "inside", kind == "onnx")
    path = tmp_path / f"model.{kind}"
    save(module, images(2), False, {}, kind, path)
    for difference in compare(load(path, kind), module, [images(1), images(3)]):
        assert not difference.fault
        assert ": 0 detections" not in difference.text
