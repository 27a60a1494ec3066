"""Analysis of models by fvcore: operation counts, and parameters without gradient."""

from collections import defaultdict
from typing import Any

import fvcore.nn
from fvcore.nn import activation_count, flop_count, parameter_count, parameter_count_table
from torch import nn

from detectron2.export import TracingAdapter

__all__ = [
    "FlopCountAnalysis",
    "activation_count_operators",
    "find_unused_parameters",
    "flop_count_operators",
    "parameter_count",
    "parameter_count_table",
]

_IGNORED_OPS = (
    "add add_ argmax argsort batch_norm constant_pad_nd div div_ exp log2 max_pool2d meshgrid "
    "mul mul_ neg nonzero_numpy reciprocal repeat_interleave rsub sigmoid sigmoid_ softmax sort "
    "sqrt sub"
)
_UNCOUNTED = {f"aten::{name}": None for name in _IGNORED_OPS.split()} | {"torchvision::nms": None}


class FlopCountAnalysis(fvcore.nn.FlopCountAnalysis):
    """fvcore's FLOP count of a model with any inputs and outputs.

    Args:
        model: any module.
        inputs: its argument, or a tuple of several.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        adapter = TracingAdapter(model, inputs, allow_non_tensor=True)
        super().__init__(adapter, adapter.flattened_inputs)
        self.set_op_handle(**_UNCOUNTED)


def flop_count_operators(model: nn.Module, inputs: list[dict]) -> defaultdict[str, float]:
    """Count billions of multiply-adds per operator for one input; RoI heads depend on proposals.

    Args:
        model: takes a list of dicts, in evaluation mode.
        inputs: such a list with one dict, whose "image" is used.
    """
    return _count(flop_count, model, inputs)


def activation_count_operators(
    model: nn.Module, inputs: list[dict], **kwargs: Any
) -> defaultdict[str, float]:
    """Count millions of activations per operator; see `flop_count_operators`."""
    return _count(activation_count, model, inputs, **kwargs)


def _count(
    function: Any, model: nn.Module, inputs: list[dict], **kwargs: Any
) -> defaultdict[str, float]:
    supported_ops = {**_UNCOUNTED, **kwargs.pop("supported_ops", {})}
    if len(inputs) != 1:
        raise AssertionError(f"Please use batch size=1, got {len(inputs)}.")
    adapter = TracingAdapter(model, [{"image": inputs[0]["image"]}], allow_non_tensor=True)
    training = model.training
    adapter.eval()
    try:
        counts = function(adapter, adapter.flattened_inputs, supported_ops, **kwargs)
    finally:
        model.train(training)
    return counts[0] if isinstance(counts, tuple) else counts


def find_unused_parameters(model: nn.Module, inputs: Any) -> list[str]:
    """Return the names of the parameters that do not influence the loss.

    Args:
        model: in training mode, returns losses.
        inputs: its argument, or a tuple of several.
    """
    if not model.training:
        raise AssertionError("The model must be in training mode, where it returns losses.")
    for parameter in model.parameters():
        parameter.grad = None
    losses = model(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    if isinstance(losses, dict):
        losses = sum(losses.values())
    losses.backward()
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    for parameter in model.parameters():
        parameter.grad = None
    return unused
