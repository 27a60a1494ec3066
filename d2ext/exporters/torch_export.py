"""`torch.export` of a module, with d2ext's operators substituted by PyTorch's and torchvision's."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from d2ext.errors import ConfigError
from d2ext.exporters.exported_module import ExportedModule
from d2ext.ops.decomposition import decompositions

_MOST = 1024  # images per batch, and sides in strides; `torch.export.Dim` wants a limit


class OperatorSubstitution(TorchFunctionMode):
    """A mode in which d2ext's operators run as compositions of standard operators."""

    def __init__(self) -> None:
        super().__init__()
        own = {op: function for op, function in decompositions().items() if op.namespace == "d2ext"}
        own[torch.ops.d2ext.deform_conv2d.default] = _deform_conv2d
        self.table: dict[Any, Callable] = {op.overloadpacket: own[op] for op in own}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        function = self.table.get(func, func) if isinstance(func, _Packet) else func
        return function(*args, **(kwargs or {}))


_Packet = torch._ops.OpOverloadPacket


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
    # Sides are multiples of the stride, so that the exported shapes need no rounding.
    shape: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=_MOST)}
    if free_size:
        least = -(-exporter.smallest // exporter.stride)
        for axis, name in ((2, "height"), (3, "width")):
            cells = torch.export.Dim(f"{name}_cells", min=least, max=_MOST)
            shape[axis] = exporter.stride * cells if exporter.stride > 1 else cells
    with torch.no_grad(), OperatorSubstitution():
        try:
            return torch.export.export(module, (images,), dynamic_shapes=(shape,), strict=False)
        except torch._dynamo.exc.UserError as error:
            if not free_size:
                raise
            raise ConfigError(
                f"{type(exporter.model).__name__} cannot be exported for images of any size: give "
                f"one, --size HEIGHT WIDTH. PyTorch says: {str(error).splitlines()[0]}"
            ) from error
