"""Depthwise convolution by PyTorch's grouped one."""

import torch
import torch.nn.functional as F
from torch import Tensor

from d2ext.ops.reference.channel_affine import in_channels_last


def depthwise_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> Tensor:
    """Compute a depthwise convolution; shapes as in `d2ext.ops`, padding as in `F.pad`."""
    padded = F.pad(input, padding)
    return in_channels_last(F.conv2d(padded, weight, bias, stride, 0, dilation, weight.shape[0]))


def depthwise_conv2d_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    needs_input: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of input and weight; one that is not needed is empty."""
    grad_input, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad_output,
        F.pad(input, padding),
        weight,
        None,
        stride,
        [0, 0],
        dilation,
        False,
        [0, 0],
        weight.shape[0],
        [needs_input, needs_weight, False],
    )
    if needs_input:
        grad_input = in_channels_last(F.pad(grad_input, [-count for count in padding]))
    return (
        grad_input if needs_input else input.new_empty(0),
        grad_weight.contiguous() if needs_weight else weight.new_empty(0),
    )
