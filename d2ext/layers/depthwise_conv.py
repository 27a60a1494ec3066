"""Depthwise convolutions whose gradients are fast on CPUs."""

from typing import cast

import torch
from torch import Tensor, nn

from d2ext.ops import depthwise_conv2d, has_compiled_depthwise_conv2d


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` of one kernel per channel that trains fast on CPUs.

    `d2ext.ops.depthwise_conv2d` computes it wherever a gradient follows, in float32 and bfloat16.
    All else is left to PyTorch: GPUs, inference, exports, and machines without the compiled
    operator.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H', W')."""
        if _is_exporting() or not self._has_fast_gradients(input):
            return super().forward(input)
        return depthwise_conv2d(
            input,
            self.weight,
            self.bias,
            stride=cast(tuple[int, int], self.stride),
            padding=self.zeros_around(input),
            dilation=cast(tuple[int, int], self.dilation),
        )

    def zeros_around(self, input: Tensor) -> tuple[int, int, int, int]:
        """Return the padding of `input` in pixels: left, right, top and bottom."""
        vertical, horizontal = cast(tuple[int, int], self.padding)
        return horizontal, horizontal, vertical, vertical

    def _has_fast_gradients(self, input: Tensor) -> bool:
        if input.device.type != "cpu" or not has_compiled_depthwise_conv2d():
            return False
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else input.dtype
        if dtype not in (torch.float32, torch.bfloat16) or input.dtype == torch.float64:
            return False
        # PyTorch's gradient of the input is fast, other than with a stride in bfloat16.
        is_strided = dtype == torch.bfloat16 and self.stride != (1, 1)
        is_slow = self.weight.requires_grad or (is_strided and input.requires_grad)
        return is_slow and torch.is_grad_enabled()


def _is_exporting() -> bool:
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def is_depthwise(module: nn.Module) -> bool:
    """Return true for a convolution with a group per input channel."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1


def speed_up_depthwise(
    model: nn.Module, classes: dict[type[nn.Conv2d], type[DepthwiseConv2d]] | None = None
) -> None:
    """Replace the depthwise convolutions of a model by `DepthwiseConv2d`, in place.

    Parameters, their names and hooks stay. Convolutions of other classes, with several outputs per
    channel or without zeros as padding are left as they are.

    Args:
        classes: what replaces each class; by default `nn.Conv2d` alone is replaced.
    """
    classes = classes or {nn.Conv2d: DepthwiseConv2d}
    for module in model.modules():
        if type(module) in classes and is_depthwise(module) and _is_plain(cast(nn.Conv2d, module)):
            # Not a new module: others may hold this one, and feature extractors hook on to it.
            module.__class__ = classes[type(module)]  # type: ignore[index]


def _is_plain(conv: nn.Conv2d) -> bool:
    is_padded_by_numbers = not isinstance(conv.padding, str)
    return (
        conv.out_channels == conv.groups and conv.padding_mode == "zeros" and is_padded_by_numbers
    )
