"""Files give what the models give, for other numbers and sizes of images than at their making."""

import json
from importlib.util import find_spec

import onnx
import onnxruntime
import pytest
import torch

from d2ext.exporters import exporter_for
from d2ext.exporters.check import compare
from d2ext.exporters.exported_module import build_exported_module
from d2ext.exporters.file_check import FP16_FACTOR
from d2ext.exporters.formats import METADATA, ONNX_BASED, load, load_with_metadata, save
from d2ext.exporters.fp16 import convert_to_fp16
from tests.helpers.detectors import some_images, tiny_detector

BATCHES = [(1, 256, 256), (3, 301, 288), (1, 30, 150)]  # the last: one row of cells in most levels
NEEDS_DEFORM_CONV = pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 25),
    reason="this onnxruntime has no DeformConv",
)
FIXED = [(1, 256, 320), (3, 256, 320)]


def check(name, kind, path, nms="inside", decode="inside", free_size=True):
    exporter = exporter_for(tiny_detector(name)[0])
    module = build_exported_module(exporter, nms, decode, for_onnx=kind in ONNX_BASED).eval()
    module(some_images(2, 256, 320))
    save(module, some_images(2, 256, 320), free_size, {"model": name}, kind, path)
    batches = [some_images(*size) for size in (BATCHES if free_size else FIXED)]
    same_as(module, path, kind, batches)
    return module, batches


def same_as(module, path, kind, batches, factor=1.0):
    for difference in compare(load(path, kind), module, batches, factor):
        assert not difference.fault
        assert ": 0 detections" not in difference.text


@pytest.mark.parametrize("name", ["RetinaNet", "ATSS", "FCOS", "DyHead"])
def test_torchscript(name, tmp_path):
    check(name, "torchscript", tmp_path / "model.pt")
    extra = {METADATA: ""}
    torch.jit.load(tmp_path / "model.pt", _extra_files=extra)
    assert json.loads(extra[METADATA]) == {"model": name}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "free_size"),
    [("RetinaNet", True), pytest.param("DyHead", False, marks=NEEDS_DEFORM_CONV)],
)
def test_onnx(name, free_size, tmp_path):
    path = tmp_path / "model.onnx"
    module, batches = check(name, "onnx", path, free_size=free_size)
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(entries["metadata"]) == {"model": name}
    if free_size:
        convert_to_fp16(path, tmp_path / "half.onnx")
        kinds = {each.data_type for each in onnx.load(tmp_path / "half.onnx").graph.initializer}
        assert onnx.TensorProto.FLOAT16 in kinds
        same_as(module, tmp_path / "half.onnx", "onnx", batches, FP16_FACTOR)
    if free_size and find_spec("openvino"):  # converted from the same file: exports take long
        from d2ext.exporters.openvino_file import save_openvino

        save_openvino(path, tmp_path / "model.xml")
        same_as(module, tmp_path / "model.xml", "openvino", batches)
        assert load_with_metadata(tmp_path / "model.xml", "openvino")[1] == {"model": name}


@pytest.mark.slow
def test_onnx_of_raw_outputs(tmp_path):
    path = tmp_path / "model.onnx"
    check("FCOS", "onnx", path, nms="none", decode="none", free_size=False)


@pytest.mark.slow
def test_torch_export_runs_without_d2ext(tmp_path):
    check("DyHead", "torch_export", tmp_path / "model.pt2", free_size=False)
    program = torch.export.load(tmp_path / "model.pt2")
    assert not [node for node in program.graph.nodes if "d2ext" in str(node.target)]
