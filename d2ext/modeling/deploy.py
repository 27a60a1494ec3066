"""A model made leaner for evaluation alone."""

from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_weights

from detectron2.layers import Conv2d

Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def fuse_norms(model: Module) -> Module:
    """Fold batch norms into Detectron2's convolutions before them, in place; returns the model.

    What the model computes stays the same but for rounding. It cannot be trained afterwards, nor
    take weights of the model that it was.
    """
    for module in model.modules():
        norm = module.norm if isinstance(module, Conv2d) else None
        if isinstance(norm, nn.BatchNorm2d):
            module.weight, module.bias = fuse_conv_bn_weights(
                module.weight,
                module.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            module.norm = None
    return model
