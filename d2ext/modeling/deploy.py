"""A model made leaner for evaluation alone."""

from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from detectron2.layers import Conv2d

Module = TypeVar("Module", bound=nn.Module)


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
