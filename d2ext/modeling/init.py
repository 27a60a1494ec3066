"""How the parameters of a layer start."""

from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def init_normal(layer: Module, std: float = 0.01, bias: float = 0.0) -> Module:
    """The layer, its weights normal of mean zero, its bias constant; it has only these."""
    for name, parameter in layer.named_parameters(recurse=False):
        if name == "bias":
            nn.init.constant_(parameter, bias)
        else:
            nn.init.normal_(parameter, std=std)
    return layer
