"""Deformable convolutions as modules, with Detectron2's signatures and parameter names."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from d2ext.ops import deform_conv2d


class ModulatedDeformConv(nn.Module):
    """Deformable convolution v2 (Zhu et al. 2019, arXiv:1811.11168).

    Args:
        in_channels, out_channels: channels, multiples of `groups`.
        kernel_size, stride, padding, dilation: as in `nn.Conv2d`.
        groups: groups of the convolution.
        deformable_groups: groups of channels with offsets and masks of their own.
        bias: whether there is a bias.
        norm: module applied to the output.
        activation: function applied after `norm`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = True,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups or in_channels % deformable_groups:
            raise ValueError(
                f"{in_channels} -> {out_channels} channels can't be split into {groups} groups "
                f"and {deformable_groups} deformable groups"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)
        self.groups, self.deformable_groups = groups, deformable_groups
        self.norm, self.activation = norm, activation
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, H, W), (B, 2 * G * taps, H', W') and (B, G * taps, H', W') -> (B, C', H', W').

        Raises:
            ValueError: a shape does not fit, see `d2ext.ops.deform_conv2d`.
        """
        self._check_groups(offset)
        x = deform_conv2d(
            x,
            offset,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=mask,
        )
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)

    def extra_repr(self) -> str:
        """The arguments, as Detectron2 prints them."""
        names = "in_channels out_channels kernel_size stride padding dilation groups"
        shown = [f"{name}={getattr(self, name)}" for name in names.split()]
        shown += [f"deformable_groups={self.deformable_groups}", f"bias={self.bias is not None}"]
        return ", ".join(shown)

    def _check_groups(self, offset: Tensor) -> None:
        expected = 2 * self.deformable_groups * math.prod(self.kernel_size)
        if offset.shape[1] != expected:
            raise ValueError(f"offset must have {expected} channels, got {tuple(offset.shape)}")


class DeformConv(ModulatedDeformConv):
    """Deformable convolution v1 (Dai et al. 2017, arXiv:1703.06211): no mask, and no bias."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if bias:
            raise ValueError("DeformConv has no bias; ModulatedDeformConv has")
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            deformable_groups=deformable_groups,
            bias=False,
            norm=norm,
            activation=activation,
        )

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:  # type: ignore[override]
        """(B, C, H, W) and (B, 2 * G * taps, H', W') -> (B, C', H', W').

        Raises:
            ValueError: a shape does not fit, see `d2ext.ops.deform_conv2d`.
        """
        return super().forward(x, offset, None)
