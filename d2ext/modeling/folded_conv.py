"""Convolutions with a frozen batch norm computed as one convolution, in training, too."""

from typing import Any, TypeVar

from torch import Tensor, nn

from detectron2.layers import Conv2d, FrozenBatchNorm2d

Module = TypeVar("Module", bound=nn.Module)


class FoldedConv2d(Conv2d):
    """A `Conv2d` whose frozen norm scales its kernel instead of its output.

    Parameters, buffers and their names stay those of `Conv2d`. Gradients are the same: the kernel's
    passes through the scaling.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = self._conv_forward(x, *folded_kernel(self))
        return x if self.activation is None else self.activation(x)


def folded_kernel(layer: Any) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the convolution that equals a `Conv2d` with a frozen norm."""
    norm = layer.norm
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    bias = shift if layer.bias is None else shift + layer.bias * scale
    return layer.weight * scale.view(-1, 1, 1, 1), bias


def fold_frozen_norms(model: Module) -> Module:
    """Turn every `Conv2d` with a frozen norm into a `FoldedConv2d`, in place; return the model."""
    for layer in model.modules():
        # Subclasses may compute something else.
        if type(layer) is Conv2d and isinstance(layer.norm, FrozenBatchNorm2d):
            layer.__class__ = FoldedConv2d
    return model
