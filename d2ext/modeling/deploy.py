"""A model made leaner for evaluation alone."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from detectron2.layers import Conv2d

Module = TypeVar("Module", bound=nn.Module)


def streamline(model: Module) -> Module:
    """Fold norms into convolutions and call chains of them directly, in place; returns the model.

    What the model computes stays the same but for rounding. It cannot be trained afterwards, nor
    take weights of the model that it was.

    Args:
        model: in evaluation mode.
    """
    return chain_convolutions(fuse_norms(model))


@torch.no_grad()
def fuse_norms(model: Module) -> Module:
    """Fold batch norms into Detectron2's convolutions before them, in place; returns the model.

    What the model computes stays the same but for rounding. It cannot be trained afterwards, nor
    take weights of the model that it was.

    Args:
        model: in evaluation mode.
    """
    convolutions: list[Any] = [module for module in model.modules() if isinstance(module, Conv2d)]
    for layer in convolutions:
        if isinstance(layer.norm, nn.BatchNorm2d):
            fused = fuse_conv_bn_eval(layer, layer.norm)
            layer.weight, layer.bias, layer.norm = fused.weight, fused.bias, None
    return model


def chain_convolutions(model: Module) -> Module:
    """Replace each `nn.Sequential` of Detectron2's convolutions without norms by a `ConvChain`, in
    place; returns the model.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Sequential and all(_is_plain(layer) for layer in child):
                setattr(parent, name, ConvChain(*child))
    return model


class ConvChain(nn.Sequential):
    """Convolutions one after the other by direct calls: those of modules take longer than some
    small convolutions do.

    Args:
        layers: of `detectron2.layers.Conv2d`, without norm.
    """

    def __init__(self, *layers: Any) -> None:
        super().__init__(*layers)
        self.calls = [
            ((c.weight, c.bias, c.stride, c.padding, c.dilation, c.groups), c.activation)
            for c in layers
        ]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> what the last layer makes of it."""
        for arguments, activation in self.calls:
            x = torch.conv2d(x, *arguments)
            if activation is not None:
                x = activation(x)
        return x


def _is_plain(layer: Any) -> bool:
    return type(layer) is Conv2d and layer.norm is None and layer.padding_mode == "zeros"
