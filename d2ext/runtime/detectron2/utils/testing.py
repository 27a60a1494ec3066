"""Helpers for tests."""

import functools
import io
import os
import tempfile
import unittest
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detectron2.structures import Boxes, Instances, ROIMasks

from .env import TORCH_VERSION
from .file_io import PathManager

__all__ = [
    "assert_instances_allclose",
    "convert_scripted_instances",
    "get_model_no_weights",
    "get_sample_coco_image",
    "has_dynamic_axes",
    "random_boxes",
    "register_custom_op_onnx_export",
    "reload_lazy_config",
    "reload_script_model",
    "skipIfOnCPUCI",
    "skipIfUnsupportedMinOpsetVersion",
    "skipIfUnsupportedMinTorchVersion",
    "unregister_custom_op_onnx_export",
]

# For tests that are too slow for CI machines.
skipIfOnCPUCI = unittest.skipIf(
    bool(os.environ.get("CI")) and not torch.cuda.is_available(),
    "too slow without a GPU",
)


def get_model_no_weights(config_path: str) -> nn.Module:
    """Build a model of the zoo with random weights, on the CPU if there is no GPU."""
    from detectron2 import model_zoo
    from detectron2.config import CfgNode, instantiate
    from detectron2.modeling import build_model

    cfg = model_zoo.get_config(config_path)
    if not isinstance(cfg, CfgNode):  # of a Python file
        return instantiate(cfg.model).to("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    return build_model(cfg)


def random_boxes(num_boxes: int, max_coord: float = 100, device: Any = "cpu") -> Tensor:
    """Return (N, 4) XYXY with corners below `max_coord` and sides of at least one pixel."""
    corners = torch.rand(num_boxes, 4, device=device) * (max_coord * 0.5)
    corners = corners.clamp(min=1.0)  # the sides are larger than zero
    return torch.cat((corners[:, :2], corners[:, :2] + corners[:, 2:]), dim=1)


def get_sample_coco_image(tensor: bool = True) -> Tensor | np.ndarray:
    """Return a BGR photo: (3, H, W) tensor, or (H, W, 3) array."""
    from detectron2.data.detection_utils import read_image

    file_name = "datasets/coco/val2017/000000382669.jpg"
    if not PathManager.exists(file_name):
        file_name = PathManager.get_local_path(
            "http://images.cocodataset.org/val2017/000000382669.jpg"
        )
    image = read_image(file_name, format="BGR")
    return torch.from_numpy(image.transpose(2, 0, 1).copy()) if tensor else image


def convert_scripted_instances(instances: Any) -> Instances:
    """Convert objects of a scripted class, which keeps its fields as "_name", to `Instances`."""
    if not hasattr(instances, "image_size"):
        raise AssertionError(f"Expect an Instances object, but got {type(instances)}!")
    converted = Instances(instances.image_size)
    for name in instances._field_names:
        value = getattr(instances, "_" + name, None)
        if value is not None:
            converted.set(name, value)
    return converted


def assert_instances_allclose(
    input: Instances,
    other: Instances,
    *,
    rtol: float = 1e-5,
    msg: str = "",
    size_as_tensor: bool = False,
) -> None:
    """Assert that two `Instances` are equal up to a tolerance.

    Args:
        input, other: the instances, compared by all fields.
        rtol: tolerance relative to the largest value of a field.
        msg: prefix of the message.
        size_as_tensor: compare image sizes that are tensors.
    """
    input, other = (
        found if isinstance(found, Instances) else convert_scripted_instances(found)
        for found in (input, other)
    )
    msg = msg or "Two Instances are different! "
    sizes = torch.as_tensor(input.image_size), torch.as_tensor(other.image_size)
    same = torch.equal(*sizes) if size_as_tensor else input.image_size == other.image_size
    assert same, f"{msg}image_size is {input.image_size} vs. {other.image_size}!"
    fields, others = sorted(input.get_fields()), sorted(other.get_fields())
    assert fields == others, f"{msg}Fields are {fields} vs {others}!"
    for name in fields:
        _assert_field_allclose(input.get(name), other.get(name), rtol, f"{msg}Field {name}")


def _assert_field_allclose(value: Any, expected: Any, rtol: float, msg: str) -> None:
    if isinstance(value, (Boxes, ROIMasks)):
        value, expected = value.tensor, expected.tensor
    if not isinstance(value, Tensor):
        assert value == expected, f"{msg} differs: {value} vs. {expected}"
    elif value.dtype.is_floating_point and value.numel():
        # Relative to the largest value, whose rounding error small values share.
        assert value.shape == expected.shape, f"{msg} differs: {value.shape} vs. {expected.shape}"
        close = torch.allclose(value, expected, rtol=0, atol=float(expected.abs().max()) * rtol)
        assert close, f"{msg} differs: {value} vs. {expected}"
    else:
        assert torch.equal(value, expected), f"{msg} differs: {value} vs. {expected}"


def reload_script_model(module: Any) -> Any:
    """Save and reload a TorchScript module."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def reload_lazy_config(cfg: Any) -> Any:
    """Save and reload a lazy config."""
    from detectron2.config import LazyConfig

    with tempfile.TemporaryDirectory(prefix="detectron2") as folder:
        path = os.path.join(folder, "d2_cfg_test.yaml")
        LazyConfig.save(cfg, path)
        return LazyConfig.load(path)


def has_dynamic_axes(onnx_model: Any) -> bool:
    """Return whether no input or output axis of an ONNX model has a fixed length."""
    values = [*onnx_model.graph.input, *onnx_model.graph.output]
    axes = [axis for value in values for axis in value.type.tensor_type.shape.dim]
    return all(not axis.dim_value for axis in axes)


def skipIfUnsupportedMinTorchVersion(min_version: str) -> Callable:
    """Return a decorator that skips a test with a PyTorch older than `min_version`."""
    return unittest.skipIf(_older_than(min_version), f"needs PyTorch {min_version}")


def skipIfUnsupportedMinOpsetVersion(
    min_opset_version: int, current_opset_version: int | None = None
) -> Callable:
    """Return a decorator that skips a test of an ONNX opset older than `min_opset_version`.

    Without a version, it is the attribute `opset_version` of the test.
    """

    def skip(test: Callable) -> Callable:
        @functools.wraps(test)
        def wrapped(self: Any) -> Any:
            opset = current_opset_version or self.opset_version
            if opset < min_opset_version:
                raise unittest.SkipTest(f"needs opset {min_opset_version}, this is {opset}")
            return test(self)

        return wrapped

    return skip


def register_custom_op_onnx_export(
    opname: str, symbolic_fn: Callable, opset_version: int, min_version: str
) -> None:
    """Register how an operator is exported to ONNX with a PyTorch older than `min_version`."""
    if _older_than(min_version):
        torch.onnx.register_custom_op_symbolic(opname, symbolic_fn, opset_version)


def unregister_custom_op_onnx_export(opname: str, opset_version: int, min_version: str) -> None:
    """Undo `register_custom_op_onnx_export`."""
    if _older_than(min_version):
        torch.onnx.unregister_custom_op_symbolic(opname, opset_version)


def _older_than(version: str) -> bool:
    return tuple(map(int, version.split(".")[:2])) > TORCH_VERSION


def _pytorch1111_symbolic_opset9_to(g: Any, self: Any, *args: Any) -> Any:
    """Not called with any PyTorch that the runtime supports; tests import the name."""
    raise NotImplementedError("PyTorch exports aten::to itself since 1.11.1")


def _pytorch1111_symbolic_opset9_repeat_interleave(
    g: Any, self: Any, repeats: Any, dim: Any = None, output_size: Any = None
) -> Any:
    """Not called with any PyTorch that the runtime supports; tests import the name."""
    raise NotImplementedError("PyTorch exports aten::repeat_interleave itself since 1.11.1")
