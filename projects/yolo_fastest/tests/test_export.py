import pytest
import torch

from d2ext.exporters import exporter_for
from d2ext.exporters.check import compare
from d2ext.exporters.exported_module import build_exported_module
from d2ext.exporters.formats import load, save
from tests.helpers.models import some_input


def images(count):
    return torch.stack([some_input(96, 128, 0, seed=n)["image"] for n in range(count)]).float()


@pytest.fixture
def exporter(build):
    torch.manual_seed(0)
    model = build(SCORE_THRESH_TEST=0.1).eval()
    with torch.no_grad():  # statistics of norms: without, cells hardly differ and scores are equal
        model.train()
        for _ in range(30):
            model.raw(images(3))
    return exporter_for(model.eval())


@pytest.mark.parametrize("nms", ["inside", "none"])
def test_a_traced_file_gives_what_the_model_gives(nms, exporter, tmp_path):
    module = build_exported_module(exporter, nms, "inside", for_onnx=False)
    save(module, images(2), True, {}, "torchscript", tmp_path / "model.pt")
    run = load(tmp_path / "model.pt", "torchscript")
    for difference in compare(run, module, [images(1), images(3)[:, :, :64]]):
        assert not difference.fault
        assert ": 0 detections" not in difference.text


@pytest.mark.slow
def test_an_onnx_file_gives_what_the_model_gives(exporter, tmp_path):
    module = build_exported_module(exporter, "inside", "inside", for_onnx=True)
    save(module, images(2), False, {}, "onnx", tmp_path / "model.onnx")
    run = load(tmp_path / "model.onnx", "onnx")
    for difference in compare(run, module, [images(1), images(3)]):
        assert not difference.fault


@torch.no_grad()
def test_raw_outputs_are_the_maps_of_both_levels(exporter):
    module = build_exported_module(exporter, "none", "none", for_onnx=False)
    outputs = module(images(2))
    assert module.output_names == ("box", "objectness", "classes")
    cells = 6 * 8 + 3 * 4
    assert [tuple(output.shape) for output in outputs] == [
        (2, 12, cells),
        (2, 3, cells),
        (2, 3, cells),
    ]
