"""Atrous spatial pyramid pooling (Chen et al. 2017, arXiv:1706.05587)."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from .batch_norm import get_norm
from .blocks import DepthwiseSeparableConv2d
from .wrappers import Conv2d

__all__ = ["ASPP"]


class ASPP(nn.Module):
    """ASPP: parallel pointwise, dilated and image-pooling branches, followed by a projection.

    Args:
        dilations: dilations of the three 3x3 convolutions.
        norm: normalisation, see `get_norm`.
        activation: a callable; a module is copied for each branch.
        pool_kernel_size: (height, width) of the average pooling; None pools over the whole map.
        dropout: dropout probability after the projection.
        use_depthwise_separable_conv: use these in the dilated branches.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dilations: Sequence[int],
        *,
        norm: str | Callable[[int], nn.Module] | None,
        activation: Callable[[Tensor], Tensor],
        pool_kernel_size: tuple[int, int] | None = None,
        dropout: float = 0.0,
        use_depthwise_separable_conv: bool = False,
    ) -> None:
        super().__init__()
        if len(dilations) != 3:
            raise ValueError(f"ASPP has three dilated branches, got dilations {dilations}")
        self.pool_kernel_size, self.dropout = pool_kernel_size, dropout

        def conv(in_channels: int, norm: Any = norm, **options: Any) -> Conv2d:
            layer = Conv2d(
                in_channels,
                out_channels,
                bias=norm == "",
                norm=get_norm(norm, out_channels),
                activation=deepcopy(activation),
                **options,
            )
            weight_init.c2_xavier_fill(layer)
            return layer

        def dilated(dilation: int) -> nn.Module:
            window: Any = {"kernel_size": 3, "padding": dilation, "dilation": dilation}
            if not use_depthwise_separable_conv:
                return conv(in_channels, **window)
            return DepthwiseSeparableConv2d(
                in_channels,
                out_channels,
                **window,
                norm1=norm,
                activation1=deepcopy(activation),
                norm2=norm,
                activation2=deepcopy(activation),
            )

        pool = (
            nn.AdaptiveAvgPool2d(1)
            if pool_kernel_size is None
            else nn.AvgPool2d(kernel_size=pool_kernel_size, stride=1)
        )
        # No norm behind the pooling: it leaves one value a channel.
        pooled = nn.Sequential(pool, conv(in_channels, norm="", kernel_size=1))
        self.convs = nn.ModuleList(
            [conv(in_channels, kernel_size=1), *map(dilated, dilations), pooled]
        )
        self.project = conv(5 * out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W).

        Raises:
            ValueError: the map's size is not divisible by the pooling kernel.
        """
        size = x.shape[-2:]
        kernel = self.pool_kernel_size
        if kernel is not None and (size[0] % kernel[0] or size[1] % kernel[1]):
            raise ValueError(
                f"ASPP pools over {tuple(kernel)}, which does not divide {tuple(size)}"
            )
        branches = [branch(x) for branch in self.convs]
        branches[-1] = F.interpolate(branches[-1], size=size, mode="bilinear", align_corners=False)
        x = self.project(torch.cat(branches, dim=1))
        return F.dropout(x, self.dropout, training=self.training) if self.dropout > 0 else x
