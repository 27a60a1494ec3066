"""Exported ONNX detectors match the models, also for images of another size."""

import io

import pytest
import torch

from d2ext._detectron2 import provider
from detectron2.export import STABLE_ONNX_OPSET_VERSION, TracingAdapter
from tests.helpers.runtime_detectors import model_of
from tests.helpers.weights import image as picture
from tests.runtime.export.test_tracing import assert_same, results

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytestmark = pytest.mark.filterwarnings("ignore")  # tracing warns of every check of an input


def before_postprocessing(model, image):  # which pastes masks in a loop
    return {"instances": model.inference([{"image": image}], do_postprocess=False)[0]}


INFERENCE = {"masks": before_postprocessing, "c4": before_postprocessing}


@pytest.mark.skipif(provider() != "bundled", reason="the official R-CNNs stop at today's exporter")
@pytest.mark.parametrize("name", ["masks", "cascade", "c4", "retinanet", "fcos", "semantic"])
def test_an_onnx_graph_generalises_to_another_image_size(name):
    model, inference, image = model_of(name), INFERENCE.get(name, results), picture(0, 70, 100)
    adapter = TracingAdapter(model, image, inference).eval()
    file = io.BytesIO()
    torch.onnx.export(
        adapter,
        (image,),
        file,
        dynamo=False,
        opset_version=STABLE_ONNX_OPSET_VERSION,
        input_names=["image"],
        dynamic_axes={"image": {1: "height", 2: "width"}},
    )
    session = onnxruntime.InferenceSession(file.getvalue())
    image = picture(1, 120, 90)
    found = session.run(None, {"image": image.numpy()})
    with torch.no_grad():
        expected = inference(model, image)
    assert_same(adapter.outputs_schema([torch.from_numpy(array) for array in found]), expected)
