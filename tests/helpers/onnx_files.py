"""ONNX files made by hand, with the metadata of exported ones: an export takes long."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from d2ext.exporters.onnx_session import METADATA_KEY

METADATA = {
    "classes": ["a", "b"],
    "channel_order": "BGR",
    "resize": "shortest_edge",
    "size": None,
    "frame": None,
    "shortest": 64,
    "longest": 100,
    "stride": 32,
    "clip": True,
    "padding": [10.0, 20.0, 30.0],
    "nms": "inside",
    "outputs": ["boxes", "scores", "classes"],
}


def write_one_box_file(path: Path, **changes: Any) -> Path:
    """Write a file that finds the box (16, 16, 48, 200); its score is the input's mean of blue."""
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
