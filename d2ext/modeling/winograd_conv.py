"""Convolution modules that use Winograd's algorithm where it is faster."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from d2ext.modeling.folded_conv import FoldedConv2d
from d2ext.ops import EXTENSION_STATE, winograd_conv2d
from detectron2.layers import Conv2d

Module = TypeVar("Module", bound=nn.Module)

LEAST_CHANNELS = 64  # of input and output; transforms cost more than they save below
LEAST_TILES = 128  # of 4x4 outputs in a batch; the kernels are transformed for each call


class WinogradForward(nn.Conv2d):
    """The convolution of `nn.Conv2d`, by `winograd_conv2d` where that is faster.

    It is on CPUs, in float32, for many pixels. Parameters and their names stay those of
    `nn.Conv2d`. Traced and compiled graphs hold PyTorch's convolution.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if _is_faster(input, weight):
            return winograd_conv2d(input, weight, bias, int(self.padding[0]))
        return super()._conv_forward(input, weight, bias)


class WinogradConv2d(WinogradForward, Conv2d):
    """Detectron2's `Conv2d`, with norm and activation, on Winograd's algorithm."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W) features, then normalise and activate them."""
        x = self._conv_forward(x, self.weight, self.bias)
        x = x if self.norm is None else self.norm(x)
        return x if self.activation is None else self.activation(x)


class WinogradFoldedConv2d(WinogradForward, FoldedConv2d):
    """A `FoldedConv2d` on Winograd's algorithm."""


_KINDS: dict[type, type] = {
    nn.Conv2d: WinogradForward,
    Conv2d: WinogradConv2d,
    FoldedConv2d: WinogradFoldedConv2d,
}


def use_winograd(model: Module) -> Module:
    """Let convolutions that can gain use Winograd's algorithm, in place; return the model.

    They have 3x3 kernels of stride 1 between many channels. Other classes are left alone: they may
    compute something else.
    """
    if "compiled" in EXTENSION_STATE:
        for layer in model.modules():
            if type(layer) in _KINDS and _can_gain(layer):
                layer.__class__ = _KINDS[type(layer)]
    return model


def _can_gain(layer: Any) -> bool:
    return (
        layer.kernel_size == (3, 3)
        and layer.stride == layer.dilation == (1, 1)
        and layer.padding in ((0, 0), (1, 1), (2, 2))
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and min(layer.in_channels, layer.out_channels) >= LEAST_CHANNELS
    )


def _is_faster(input: Tensor, weight: Tensor) -> bool:
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    batch, _, height, width = input.shape
    return (
        input.is_cpu
        and input.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and batch * (height // 4) * (width // 4) >= LEAST_TILES
        and input.is_contiguous()
    )
