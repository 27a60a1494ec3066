"""`torch.export` of a module, with d2ext's operators substituted by PyTorch's and torchvision's."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental import _config as fx_config
from torch.overrides import TorchFunctionMode

from d2ext.errors import ConfigError
from d2ext.exporters.exported_module import ExportedModule
from d2ext.exporters.exporter import Exporter
from d2ext.exporters.same_padding import has_same_padding, short_same_padding
from d2ext.ops.decomposition import decompositions

_MOST = 1024  # images per batch, and sides in strides; `torch.export.Dim` wants a limit


class OperatorSubstitution(TorchFunctionMode):
    """A mode in which d2ext's operators run as compositions of standard operators."""

    def __init__(self) -> None:
        super().__init__()
        own = {op: function for op, function in decompositions().items() if op.namespace == "d2ext"}
        own[torch.ops.d2ext.deform_conv2d.default] = _deform_conv2d
        self.table: dict[Any, Callable] = {op.overloadpacket: own[op] for op in own}
        self.table[F.interpolate] = _interpolate

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        known = isinstance(func, _Packet) or func is F.interpolate
        function = self.table.get(func, func) if known else func
        return function(*args, **(kwargs or {}))


_Packet = torch._ops.OpOverloadPacket


def _interpolate(input: Tensor, size: Any = None, *args: Any, **kwargs: Any) -> Tensor:
    """Call `F.interpolate`, but for aligned corners, where PyTorch asks if a side is 1, multiply.

    The answer would hold for all sizes of the file.
    """
    if size is None or not kwargs.get("align_corners"):
        return F.interpolate(input, size, *args, **kwargs)
    rows, columns = (_weights(input, axis, size[axis]) for axis in (-2, -1))
    return rows @ input @ columns.T


def _weights(input: Tensor, axis: int, wanted: int) -> Tensor:
    """Return the (wanted, side) weights of linear interpolation along an axis."""
    cells = torch.arange(input.shape[axis], dtype=input.dtype, device=input.device)
    steps = torch.arange(wanted, dtype=input.dtype, device=input.device)
    places = steps * (cells[-1:] / steps[-1:].clamp(min=1))
    return (1 - (places[:, None] - cells).abs()).clamp(min=0)


def _deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> Tensor:
    """Call torchvision's operator, which exporters and runtimes know."""
    groups = input.shape[1] // weight.shape[1]
    offset_groups = offset.shape[1] // (2 * weight.shape[2] * weight.shape[3])
    return torch.ops.torchvision.deform_conv2d(
        input,
        weight,
        offset,
        offset.new_empty(0) if mask is None else mask,
        weight.new_zeros(weight.shape[0]) if bias is None else bias,
        *stride,
        *padding,
        *dilation,
        groups,
        offset_groups,
        mask is not None,
    )


def export_program(
    module: ExportedModule, images: Tensor, free_size: bool
) -> torch.export.ExportedProgram:
    """Export a module for any number of images and, if `free_size`, for any size.

    Args:
        images: (B, 3, H, W) with B > 1, to run the module once.
    Raises:
        ConfigError: the model does not allow a free size.
    """
    exporter = module.exporter
    if free_size:
        _check_padding(exporter)
    shape: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=_MOST)}
    if free_size:
        for axis, name in ((2, "height"), (3, "width")):
            side = torch.export.Dim(name, min=1, max=_MOST * exporter.stride // exporter.multiple)
            shape[axis] = exporter.multiple * side if exporter.multiple > 1 else side
    # By default a side of a feature map is assumed not to be 1, which it is in small images.
    oblivious = fx_config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with torch.no_grad(), OperatorSubstitution(), short_same_padding(), oblivious:
        try:
            program = torch.export.export(
                module,
                (images,),
                dynamic_shapes=(shape,),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
            return _without_assertions(program)
        except torch._dynamo.exc.UserError as error:
            if not free_size:
                raise
            raise ConfigError(
                f"{type(exporter.model).__name__} cannot be exported for images of any size: give "
                f"one, --size HEIGHT WIDTH. PyTorch says: {str(error).splitlines()[0]}"
            ) from error


def _check_padding(exporter: Exporter) -> None:
    """Raise a ConfigError for a model whose sizes of feature maps torch.export cannot simplify."""
    if exporter.pads or exporter.multiple > 1 or not has_same_padding(exporter.model):
        return
    raise ConfigError(
        f"{type(exporter.model).__name__} on this backbone (timm's SAME padding, images that are "
        "not padded) cannot be exported for images of any size: tracing does not end within "
        "minutes. Give a size, --size HEIGHT WIDTH."
    )


def _without_assertions(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Remove what tracing assumed of sizes: above all that a batch and a map are more than one.

    The program computes those as well: the file is compared with the model for them.
    """
    graph = program.graph_module.graph
    for node in reversed(list(graph.nodes)):
        if node.target is torch.ops.aten._assert_scalar.default:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program
