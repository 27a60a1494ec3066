"""Models as graphs of tensors, by tracing; `torch.onnx.export` takes the same adapter."""

from .flatten import TracingAdapter
from .torchscript import dump_torchscript_IR, scripting_with_instances

# The opset that exported models are tested with.
STABLE_ONNX_OPSET_VERSION = 16

__all__ = [
    "STABLE_ONNX_OPSET_VERSION",
    "TracingAdapter",
    "dump_torchscript_IR",
    "scripting_with_instances",
]
