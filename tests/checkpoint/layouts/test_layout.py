import pytest
import torch

from d2ext.checkpoint import Checkpointer, convert_official
from d2ext.checkpoint.layouts import Layout, layout, register_layout, registered_layouts

ENCODER = "encoder.layers.0.weight"


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(layout, "_LAYOUTS", list(layout._LAYOUTS))


def toy(name: str, prefix: str) -> Layout:
    return Layout(
        name=name,
        recognise=lambda weights: ENCODER in weights,
        renamings=((r"^encoder\.", prefix),),
    )


def test_weights_of_a_registered_layout_are_loaded(registry, tmp_path, caplog):
    register_layout(toy("toy", "body."))
    torch.save({ENCODER: torch.ones(1)}, tmp_path / "w.pth")
    model = torch.nn.ModuleDict({"body": torch.nn.ModuleDict({"layers": torch.nn.ModuleList()})})
    model["body"]["layers"].append(torch.nn.ParameterDict({"weight": torch.zeros(1)}))
    with caplog.at_level("INFO"):
        Checkpointer(model).load(str(tmp_path / "w.pth"))
    assert model["body"]["layers"][0]["weight"].item() == 1
    assert "layout toy: 1 tensors matched" in caplog.text


def test_the_last_registered_layout_is_tried_first(registry):
    register_layout(toy("first", "a."))
    register_layout(toy("second", "b."))
    assert [own.name for own in registered_layouts()[:2]] == ["second", "first"]
    assert list(convert_official({ENCODER: torch.zeros(1)})) == ["b.layers.0.weight"]


def test_detectron2s_names_are_tried_last():
    assert [own.name for own in registered_layouts()[-2:]] == ["Detectron2", "Detectron2 ResNet"]
