"""Layers of timm's backbones that train faster on CPUs, with timm's parameters."""

from timm.layers import BatchNormAct2d, Conv2dSame, get_same_padding
from torch import Tensor, nn

from d2ext.layers import ACTIVATION_BOUNDS, DepthwiseConv2d, FastFrozenNorm, is_plain_depthwise


class DepthwiseConv2dSame(DepthwiseConv2d, Conv2dSame):
    """timm's convolution with TensorFlow's "SAME" padding, with fast gradients on CPUs."""

    def zeros_around(self, input: Tensor) -> tuple[int, int, int, int]:
        """Return the padding of `input` in pixels, which has the odd one at the right and below."""
        sizes = zip(input.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        vertical, horizontal = (get_same_padding(*axis) for axis in sizes)
        left, top = horizontal // 2, vertical // 2
        return left, horizontal - left, top, vertical - top


class FastFrozenNormAct(FastFrozenNorm, BatchNormAct2d):
    """timm's batch norm with an activation, in one pass over memory while it is frozen."""

    def bounds(self) -> tuple[float, float] | None:
        """Return the bounds of the activation; None if it is not ReLU, ReLU6 or none at all."""
        return ACTIVATION_BOUNDS.get(type(self.act)) if type(self.drop) is nn.Identity else None


_CONVOLUTIONS = {nn.Conv2d: DepthwiseConv2d, Conv2dSame: DepthwiseConv2dSame}
_NORMS = {nn.BatchNorm2d: FastFrozenNorm, BatchNormAct2d: FastFrozenNormAct}


def replace_slow_layers(model: nn.Module) -> None:
    """Replace depthwise convolutions and batch norms by ours, in place.

    Parameters, their names and hooks stay, and so do layers of classes that are not timm's usual.
    """
    for module in model.modules():
        # Not new modules: others may hold these, and feature extractors hook on to them.
        if is_plain_depthwise(module):
            module.__class__ = _CONVOLUTIONS.get(type(module), type(module))
        module.__class__ = _NORMS.get(type(module), type(module))
