"""ONNX files as detectors, in 8 bits too, on a graph made by hand: no export, which takes long."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from d2ext.errors import WeightsError
from d2ext.exporters.formats import METADATA_KEY
from d2ext.exporters.int8 import quantize
from d2ext.exporters.onnx_inference import OnnxDetector

METADATA = {
    "classes": ["a", "b"],
    "channel_order": "BGR",
    "resize": "shortest_edge",
    "size": None,
    "shortest": 64,
    "longest": 100,
    "stride": 32,
    "clip": True,
    "padding": [10.0, 20.0, 30.0],
    "nms": "inside",
    "outputs": ["boxes", "scores", "classes"],
}


def write(path, **changes):
    """A file that finds one box, (16, 16, 48, 200), with the input's mean of blue as score."""
    weight = np.zeros((1, 3, 1, 1), np.float32)
    weight[0, 0] = 1 / 255
    constants = {
        "weight": weight,
        "boxes": np.array([[[16, 16, 48, 200], [0, 0, 0, 0]]], np.float32),
        "second": np.zeros((1, 1), np.float32),
        "classes": np.array([[1, -1]]),
        "shape": np.array([1, 1]),
    }
    nodes = [
        helper.make_node("Conv", ["images", "weight"], ["blue"]),
        helper.make_node("GlobalAveragePool", ["blue"], ["mean"]),
        helper.make_node("Reshape", ["mean", "shape"], ["first"]),
        helper.make_node("Concat", ["first", "second"], ["scores"], axis=1),
        helper.make_node("Identity", ["boxes"], ["found"]),
        helper.make_node("Identity", ["classes"], ["labels"]),
    ]
    graph = helper.make_graph(
        nodes,
        "one_box",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["b", 3, "h", "w"])],
        [
            helper.make_tensor_value_info("found", TensorProto.FLOAT, [1, 2, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: json.dumps({**METADATA, **changes})})
    onnx.save(model, path)
    return path


def test_boxes_are_in_pixels_of_the_image_and_clipped_to_it(tmp_path):
    blue = np.zeros((128, 160, 3), np.uint8)
    blue[..., 2] = 255
    found = OnnxDetector(write(tmp_path / "m.onnx"))(blue)
    # 128 x 160 becomes 64 x 80, padded to 64 x 96: blue is 255 in five sixths, and 10 beside.
    assert found.pred_boxes.tensor.tolist() == [[32, 32, 96, 128]]
    torch.testing.assert_close(found.scores, torch.tensor([(5 + 10 / 255) / 6]))
    assert found.pred_classes.tolist() == [1]


def test_small_images_are_padded_on_the_right_and_bottom(tmp_path):
    detector = OnnxDetector(write(tmp_path / "m.onnx", shortest=16))
    images, size = detector.prepare(np.full((16, 20, 3), 7, np.uint8))
    assert (images.shape, size) == ((1, 3, 32, 32), (16, 20))
    assert (images[0, :, :16, :20] == 7).all()
    assert images[0, :, 16:, 20:].reshape(3, -1).std() > 0
    assert images[0, :, 31, 31].tolist() == [10, 20, 30]


@pytest.mark.parametrize(("kind", "size"), [("stretch", (64, 96)), ("letterbox", (64, 64))])
def test_a_fixed_size_is_stretched_to_or_fitted_in(kind, size, tmp_path):
    detector = OnnxDetector(write(tmp_path / "m.onnx", resize=kind, size=[64, 96]))
    images, resized = detector.prepare(np.zeros((128, 128, 3), np.uint8))
    assert (images.shape, resized) == ((1, 3, 64, 96), size)


def test_a_file_without_nms_or_of_others_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="with NMS in it"):
        OnnxDetector(write(tmp_path / "m.onnx", nms="none"))
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"broken\.onnx: onnxruntime .* cannot run it"):
        OnnxDetector(tmp_path / "broken.onnx")


def test_int8_gives_nearly_the_same_and_keeps_the_metadata(tmp_path):
    path = write(tmp_path / "m.onnx")
    full = OnnxDetector(path)
    images = [np.full((64, 64, 3), grey, np.uint8) for grey in (0, 80, 255)]
    quantize(path, tmp_path / "q.onnx", (full.prepare(image)[0] for image in images))
    small = OnnxDetector(tmp_path / "q.onnx")
    assert small.metadata == full.metadata
    kinds = [node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node]
    assert "QuantizeLinear" in kinds
    exact, rounded = full(images[1]).scores, small(images[1]).scores
    torch.testing.assert_close(exact, rounded, atol=0.01, rtol=0)


def test_a_file_of_one_channel_is_given_one(tmp_path):
    detector = OnnxDetector(write(tmp_path / "a.onnx", channel_order="L", padding=[10.0]))
    images, _ = detector.prepare(np.full((32, 32, 3), 90, np.uint8))
    assert images.shape == (1, 1, 64, 64)
    assert np.unique(images).tolist() == [90]
