"""Whether a function survives export: as a program without d2ext's operators, and as ONNX."""

from collections.abc import Callable

import onnxruntime
import torch
from torch import Tensor, nn

from d2ext.ops.decomposition import decompositions


class _Module(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.function(*tensors)


def check_export(function: Callable, *tensors: Tensor, **tolerances: float) -> None:
    """Fail unless `function` of the tensors gives the same exported, decomposed and as ONNX.

    Args:
        function: returns a tensor or a tuple of them.
        tolerances: rtol and atol between onnxruntime and PyTorch.
    """
    tensors = tuple(tensor.detach() for tensor in tensors)
    expected = _as_tuple(function(*tensors))
    program = torch.export.export(_Module(function), tensors)
    torch.testing.assert_close(_as_tuple(program.module()(*tensors)), expected)
    program = program.run_decompositions(decompositions())
    left = [node for node in program.graph.nodes if str(node.target).startswith("d2ext.")]
    assert not left, f"not decomposed: {left}"
    torch.testing.assert_close(_as_tuple(program.module()(*tensors)), expected, **tolerances)
    torch.testing.assert_close(_run_as_onnx(program, tensors), expected, **tolerances)


def _run_as_onnx(program: torch.export.ExportedProgram, tensors: tuple) -> tuple[Tensor, ...]:
    exported = torch.onnx.export(program, tensors, dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: the exporter leaves things that are not used
    session = onnxruntime.InferenceSession(exported.model_proto.SerializeToString(), options)
    names = [value.name for value in session.get_inputs()]
    arrays = (tensor.numpy() for tensor in tensors)
    return tuple(map(torch.from_numpy, session.run(None, dict(zip(names, arrays, strict=True)))))


def _as_tuple(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (output,) if isinstance(output, Tensor) else tuple(output)
