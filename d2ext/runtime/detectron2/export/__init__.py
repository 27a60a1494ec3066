"""Export of models as graphs of tensors, by tracing; `torch.onnx.export` takes the same adapter."""

import warnings
from typing import Any

from .flatten import TracingAdapter
from .torchscript import dump_torchscript_IR, scripting_with_instances

# The ONNX opset with which exported models are tested.
STABLE_ONNX_OPSET_VERSION = 16

__all__ = [
    "STABLE_ONNX_OPSET_VERSION",
    "TracingAdapter",
    "add_export_config",
    "dump_torchscript_IR",
    "scripting_with_instances",
]


def add_export_config(cfg: Any) -> Any:
    """Return the config unchanged: export has no options any more."""
    warnings.warn("add_export_config does nothing and can be left out.", stacklevel=2)
    return cfg
