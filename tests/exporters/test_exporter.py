import pytest
import torch
from torch import nn

from d2ext.errors import ConfigError
from d2ext.exporters import exporter as registry
from d2ext.exporters import exporter_for, register_exporter
from d2ext.exporters.dense import DenseExporter
from tests.helpers.detectors import tiny_detector


def test_a_model_without_an_exporter_is_named_beside_those_with_one():
    with pytest.raises(
        ConfigError, match=r"Linear cannot be exported.*ATSS.*DenseDetector.*FCOS.*RetinaNet"
    ) as raised:
        exporter_for(nn.Linear(1, 1))
    assert "SemanticSegmentor" in str(raised.value)
    assert "PanopticFPN" not in str(raised.value)


def test_a_subclass_inherits_an_exporter_unless_it_registers_one(monkeypatch):
    monkeypatch.setattr(registry._EXPORTERS, "_values", dict(registry._EXPORTERS._values))
    model, _ = tiny_detector("ATSS")
    model.__class__ = type("Child", (type(model),), {})
    assert type(exporter_for(model)) is DenseExporter

    class Own(DenseExporter):
        pass

    register_exporter(type(model), Own)

    assert type(exporter_for(model)) is Own


def test_a_file_of_a_dense_detector_takes_any_size_and_pads_as_the_model():
    exporter = exporter_for(tiny_detector("ATSS")[0])
    assert (exporter.stride, exporter.multiple) == (32, 1)
    padded = exporter.pad(torch.ones(1, 3, 33, 64))
    assert padded.shape == (1, 3, 64, 64)
    assert padded[:, :, 33:].abs().max() == 0


def test_pixels_are_normalised_by_the_models_numbers():
    exporter = exporter_for(tiny_detector("RetinaNet")[0])
    mean = exporter.model.pixel_mean.expand(3, 2, 2)[None]
    torch.testing.assert_close(exporter.normalize(mean), torch.zeros(1, 3, 2, 2))
