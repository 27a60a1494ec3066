"""Traced detectors match the models, also for images of another size."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from detectron2.export import TracingAdapter
from detectron2.structures import Instances
from tests.helpers.runtime_detectors import VARIANTS, model_of
from tests.helpers.weights import image as picture

testing = pytest.importorskip("detectron2.utils.testing", reason="it needs pkg_resources")
assert_instances_allclose = testing.assert_instances_allclose
pytestmark = pytest.mark.filterwarnings("ignore")  # tracing warns of every check of an input


def results(model: nn.Module, image: torch.Tensor) -> Any:
    return model([{"image": image}])[0]


def parts_of_panoptic(model: Any, image: torch.Tensor) -> Any:
    instances, semantic = model.inference([{"image": image}], do_postprocess=False)
    return {"instances": instances[0], "sem_seg": semantic}


def traced(model: nn.Module, inference: Callable, *images: torch.Tensor) -> Callable:
    adapter = TracingAdapter(model, images, inference)
    graph = torch.jit.trace(adapter, images, check_trace=False)
    return lambda *images: adapter.outputs_schema(graph(*images))


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, Instances):
            assert len(value) > 0
            assert_instances_allclose(found[name], value, size_as_tensor=True)
        else:
            torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("name", [*VARIANTS, "fcos"])
def test_a_traced_model_generalises_to_another_image_size(name: str):
    model = model_of(name)
    inference = parts_of_panoptic if name == "panoptic" else results
    graph = traced(model, inference, picture(0, 70, 100))
    with torch.no_grad():
        expected = inference(model, picture(1, 120, 90))
    assert_same(graph(picture(1, 120, 90)), expected)
