"""Deformable convolutions as modules on `torchvision.ops.deform_conv2d`.

Sources: Dai et al. 2017, arXiv:1703.06211; with modulation, Zhu et al. 2019, arXiv:1811.11168.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torchvision.ops import deform_conv2d

IntPair = int | tuple[int, int]


class _Deformable:
    """Methods of the two layers; without a constructor, so that nn.Module's is the next."""

    def _set_up(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair,
        padding: IntPair,
        dilation: IntPair,
        groups: int,
        deformable_groups: int,
        bias: bool,
        norm: nn.Module | None,
        activation: Callable[[Tensor], Tensor] | None,
    ) -> None:
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{in_channels} -> {out_channels} channels: not {groups} groups")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.groups, self.deformable_groups = groups, deformable_groups
        self.norm, self.activation = norm, activation
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def _convolve(self, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        points = self.deformable_groups * self.kernel_size[0] * self.kernel_size[1]
        if offset.shape[1] != 2 * points:
            raise ValueError(f"offset has {offset.shape[1]} channels, expected {2 * points}")
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        x = deform_conv2d(x, offset, weight, bias, self.stride, self.padding, self.dilation, mask)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)

    def extra_repr(self) -> str:
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, "
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, groups={self.groups}, "
            f"deformable_groups={self.deformable_groups}, bias={self.bias is not None}"
        )


class DeformConv(_Deformable, nn.Module):
    """Deformable convolution: each input is read at its grid position plus an offset.

    Args:
        deformable_groups: number of groups of input channels with separate offsets.
        bias: not supported; kept for the signature.
        norm, activation: applied to the output, in this order.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: IntPair = 0,
        dilation: IntPair = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if bias:
            raise ValueError("DeformConv has no bias; ModulatedDeformConv has one")
        pairs = (_pair(kernel_size), _pair(stride), _pair(padding), _pair(dilation))
        super().__init__()
        self._set_up(
            in_channels,
            out_channels,
            *pairs,
            groups,
            deformable_groups,
            bias=False,
            norm=norm,
            activation=activation,
        )

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolve (B, in_channels, H, W) at offset positions to (B, out_channels, H', W').

        `offset` is (B, 2 * deformable_groups * kh * kw, H', W') in input pixels: y, then x of
        each kernel position.
        """
        return self._convolve(x, offset, None)


class ModulatedDeformConv(_Deformable, nn.Module):
    """`DeformConv` with a modulation factor per sampled position, and with a bias.

    The arguments are those of `DeformConv`, but `bias` is supported.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: IntPair = 0,
        dilation: IntPair = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = True,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self._set_up(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            deformable_groups,
            bias,
            norm,
            activation,
        )

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Convolve as `DeformConv`; `mask` is (B, deformable_groups * kh * kw, H', W')."""
        return self._convolve(x, offset, mask)


def deform_conv(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    deformable_groups: int = 1,
    im2col_step: int = 64,
) -> Tensor:
    """Compute a deformable convolution; see `DeformConv`.

    Args:
        weight: (out_channels, in_channels / groups, kh, kw); the groups follow from the shapes.
        im2col_step: of no effect; kept for the signature.
    """
    return deform_conv2d(input, offset, weight, None, stride, padding, dilation)


def modulated_deform_conv(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    deformable_groups: int = 1,
) -> Tensor:
    """Compute a modulated deformable convolution; the groups follow from the shapes."""
    return deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)
