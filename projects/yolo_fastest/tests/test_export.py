import pytest
import torch

from d2ext.export import exporter_for
from d2ext.export.check import compare
from d2ext.export.formats import load, save
from d2ext.export.graph import build_graph
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
    graph = build_graph(exporter, nms, "inside", for_onnx=False)
    save(graph, images(2), True, {}, "torchscript", tmp_path / "model.pt")
    run = load(tmp_path / "model.pt", "torchscript")
    for difference in compare(run, graph, [images(1), images(3)[:, :, :64]]):
        assert not difference.fault
        assert ": 0 detections" not in difference.text


@pytest.mark.slow
def test_an_onnx_file_gives_what_the_model_gives(exporter, tmp_path):
    graph = build_graph(exporter, "inside", "inside", for_onnx=True)
    save(graph, images(2), False, {}, "onnx", tmp_path / "model.onnx")
    run = load(tmp_path / "model.onnx", "onnx")
    for difference in compare(run, graph, [images(1), images(3)]):
        assert not difference.fault


@torch.no_grad()
def test_raw_outputs_are_the_maps_of_both_levels(exporter):
    graph = build_graph(exporter, "none", "none", for_onnx=False)
    outputs = graph(images(2))
    assert graph.output_names == ("box", "objectness", "classes")
    cells = 6 * 8 + 3 * 4
    assert [tuple(output.shape) for output in outputs] == [
        (2, 12, cells),
        (2, 3, cells),
        (2, 3, cells),
    ]
