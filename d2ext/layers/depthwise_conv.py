"""Depthwise convolutions whose gradients are fast on CPUs."""

from typing import cast

import torch
from torch import Tensor, nn

from d2ext.ops import depthwise_conv2d, is_compiled


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
        if input.device.type != "cpu" or not is_compiled("depthwise_conv2d"):
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


def is_plain_depthwise(module: nn.Module) -> bool:
    """Return true for a convolution that `DepthwiseConv2d` or a subclass can stand in for.

    Those with several outputs per channel and those padded with other numbers than zeros are none.
    """
    if not is_depthwise(module):
        return False
    conv = cast(nn.Conv2d, module)
    is_padded_by_numbers = not isinstance(conv.padding, str)
    return (
        conv.out_channels == conv.groups and conv.padding_mode == "zeros" and is_padded_by_numbers
    )
