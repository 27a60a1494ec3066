"""Fusing convolutions and batch norms for inference."""

import sys
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

from d2ext.modeling.folded_conv import FoldedConv2d, folded_kernel
from d2ext.modeling.mask_head import predict_masks_of_classes
from d2ext.modeling.winograd_conv import WinogradConv2d, WinogradFoldedConv2d, use_winograd
from detectron2.layers import Conv2d, FrozenBatchNorm2d

Module = TypeVar("Module", bound=nn.Module)

# Convolutions that compute as Detectron2's does; other subclasses may not.
_KINDS = (Conv2d, FoldedConv2d, WinogradConv2d, WinogradFoldedConv2d)


def fuse_for_inference(model: Module) -> Module:
    """Fuse norms into convolutions, chain these and predict fewer masks, in place.

    Outputs stay the same up to rounding. The model can neither be trained nor load a checkpoint
    afterwards.

    Args:
        model: in evaluation mode.
    Returns:
        The model.
    """
    predict_masks_of_classes(model)
    return use_winograd(chain_convolutions(activate_in_place(fuse_norms(model))))


@torch.no_grad()
def fuse_norms(model: Module) -> Module:
    """Fold batch norms into the convolutions before them, in place; return the model.

    Convolutions are Detectron2's `Conv2d` with their `norm`, and timm's `ConvNormAct`.

    Args:
        model: in evaluation mode.
    """
    if "timm" in sys.modules:  # else the model has no layer of it, and its import takes a second
        _fuse_timm_blocks(model)
    convolutions: list[Any] = [module for module in model.modules() if isinstance(module, Conv2d)]
    for layer in convolutions:
        # Other norms depend on the input, so that no constant kernel can hold them.
        if type(layer) in _KINDS and isinstance(layer.norm, FrozenBatchNorm2d):
            weight, bias = folded_kernel(layer)
            layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
            layer.norm, layer.__class__ = None, Conv2d
        elif isinstance(layer.norm, nn.BatchNorm2d):
            fused = fuse_conv_bn_eval(layer, layer.norm)
            layer.weight, layer.bias, layer.norm = fused.weight, fused.bias, None
    return model


def _fuse_timm_blocks(model: nn.Module) -> None:
    from timm.layers import BatchNormAct2d, ConvNormAct

    for block in [m for m in model.modules() if isinstance(m, ConvNormAct)]:
        if type(block.conv) is nn.Conv2d and isinstance(block.bn, BatchNormAct2d):
            activation = nn.Sequential(block.bn.drop, block.bn.act)
            block.conv, block.bn = fuse_conv_bn_eval(block.conv, block.bn), activation


def activate_in_place(model: Module) -> Module:
    """Let ReLUs after convolutions overwrite their input, in place; return the model."""
    for layer in [module for module in model.modules() if isinstance(module, Conv2d)]:
        if isinstance(layer.activation, nn.ReLU):
            layer.activation = nn.ReLU(inplace=True)
        elif layer.activation in (torch.relu, functional.relu):
            layer.activation = torch.relu_
    return model


def chain_convolutions(model: Module) -> Module:
    """Replace each sequence of plain `Conv2d` by a `ConvChain`, in place; return the model."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Sequential and all(_is_plain(layer) for layer in child):
                setattr(parent, name, ConvChain(*child))
    return model


class ConvChain(nn.Sequential):
    """Convolutions one after the other, called as functions.

    The call of a module takes longer than some small convolutions do.

    Args:
        layers: `detectron2.layers.Conv2d` without norm.
    """

    def __init__(self, *layers: Any) -> None:
        super().__init__(*layers)
        self.calls = [
            ((c.weight, c.bias, c.stride, c.padding, c.dilation, c.groups), c.activation)
            for c in layers
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to (B, C, H, W) features."""
        for arguments, activation in self.calls:
            x = torch.conv2d(x, *arguments)
            if activation is not None:
                x = activation(x)
        return x


def _is_plain(layer: Any) -> bool:
    return type(layer) is Conv2d and layer.norm is None and layer.padding_mode == "zeros"
