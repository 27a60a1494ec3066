"""Building blocks of convolutional networks."""

from collections.abc import Callable

from fvcore.nn import weight_init
from torch import Tensor, nn

from .batch_norm import FrozenBatchNorm2d, get_norm
from .wrappers import Conv2d

Norm = str | Callable[[int], nn.Module] | None
Activation = Callable[[Tensor], Tensor] | None


class CNNBlockBase(nn.Module):
    """A CNN block: (B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def freeze(self) -> "CNNBlockBase":
        """Freeze this block: no gradients, and batch norms become frozen ones."""
        self.requires_grad_(False)
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        return self


class DepthwiseSeparableConv2d(nn.Module):
    """A depthwise convolution, then a pointwise one (Chollet 2017, arXiv:1610.02357).

    Args:
        norm1, activation1: after the depthwise convolution; for norms see `get_norm`.
        norm2, activation2: after the pointwise convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        padding: int = 1,
        dilation: int = 1,
        *,
        norm1: Norm = None,
        activation1: Activation = None,
        norm2: Norm = None,
        activation2: Activation = None,
    ) -> None:
        super().__init__()
        window = {"kernel_size": kernel_size, "padding": padding, "dilation": dilation}
        depthwise = {"groups": in_channels, **window}
        self.depthwise = _conv(in_channels, in_channels, norm1, activation1, depthwise)
        self.pointwise = _conv(in_channels, out_channels, norm2, activation2, {"kernel_size": 1})

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


def _conv(
    in_channels: int, out_channels: int, norm: Norm, activation: Activation, options: dict
) -> Conv2d:
    layer = get_norm(norm, out_channels)
    conv = Conv2d(
        in_channels,
        out_channels,
        bias=layer is None,
        norm=layer,
        activation=activation,
        **options,
    )
    weight_init.c2_msra_fill(conv)
    return conv
