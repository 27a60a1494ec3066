"""ONNX files whose network computes in 16-bit floats; boxes and scores stay in 32 bits."""

from collections.abc import Iterable
from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

LEARNED = {"Conv", "ConvTranspose", "DeformConv", "Gemm", "MatMul"}  # the layers with weights


def convert_to_fp16(source: Path, target: Path) -> None:
    """Convert `source` to `target`; inputs, outputs and metadata stay as they are.

    What follows the last layers with weights decodes boxes and stays in 32 bits, and so does what
    computes regions to pool from: in 16 bits, pixels from 1024 on are whole numbers.
    """
    model = onnx.load(source)
    for number, node in enumerate(model.graph.node):
        node.name = f"{number}_{node.name}"  # blocked by name, which is optional
    blocked = [node.name for node in _outside_network(model.graph)]
    half = convert_float_to_float16(model, keep_io_types=True, node_block_list=blocked)
    onnx.save(half, target)


def _outside_network(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes that no layer with weights depends on, and those that compute regions."""
    maker = {name: node for node in graph.node for name in node.output}
    ends = [name for node in graph.node if node.op_type in LEARNED for name in node.output]
    regions = [node.input[1] for node in graph.node if node.op_type == "RoiAlign"]
    network = _ancestors(ends, maker) - _ancestors(regions, maker, stop=LEARNED)
    return [node for node in graph.node if node.name not in network]


def _ancestors(
    names: Iterable[str], maker: dict[str, onnx.NodeProto], stop: Iterable[str] = ()
) -> set[str]:
    """Return the names of the nodes that values depend on, up to operators of kind `stop`."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        node = maker.get(waiting.pop())
        if node is None or node.name in found or node.op_type in stop:
            continue
        found.add(node.name)
        waiting.extend(node.input)
    return found
