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
        deformable_groups: groups of input channels with their own offsets and masks.
        bias: add a learnt bias.
        norm: module applied to the output.
        activation: function applied after `norm`.
    Raises:
        ValueError: channels are not multiples of the groups.
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
        """Convolve, normalise and activate.

        Args:
            x: (B, C, H, W).
            offset: (B, 2 * G * taps, H', W') in pixels of `x`, for G deformable groups.
            mask: (B, G * taps, H', W') factors of the samples, or None.
        Returns:
            (B, C', H', W').
        Raises:
            ValueError: a shape does not fit, see `d2ext.ops.deform_conv2d`.
        """
        # The operator would take any number of offset groups that divides the channels.
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
        """Return the arguments, as Detectron2 prints them."""
        names = "in_channels out_channels kernel_size stride padding dilation groups"
        shown = [f"{name}={getattr(self, name)}" for name in names.split()]
        shown += [f"deformable_groups={self.deformable_groups}", f"bias={self.bias is not None}"]
        return ", ".join(shown)

    def _check_groups(self, offset: Tensor) -> None:
        expected = 2 * self.deformable_groups * math.prod(self.kernel_size)
        if offset.shape[1] != expected:
            raise ValueError(f"offset must have {expected} channels, got {tuple(offset.shape)}")


class DeformConv(ModulatedDeformConv):
    """Deformable convolution v1 (Dai et al. 2017, arXiv:1703.06211): no mask, and no bias.

    Arguments as of `ModulatedDeformConv`. `bias` is there for Detectron2's signature only: True
    raises ValueError.
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
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if bias:
            raise ValueError("DeformConv has no bias; use ModulatedDeformConv")
        geometry = kernel_size, stride, padding, dilation, groups, deformable_groups
        super().__init__(in_channels, out_channels, *geometry, False, norm, activation)

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve as `ModulatedDeformConv` does, without a mask."""
        return super().forward(x, offset, None)
