"""Initialisation of parameters."""

from math import log
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def init_normal(layer: Module, std: float = 0.01, bias: float = 0.0) -> Module:
    """Draw the weights of `layer` from N(0, std) and set its bias, in place; return the layer."""
    for name, parameter in layer.named_parameters(recurse=False):
        if name == "bias":
            nn.init.constant_(parameter, bias)
        else:
            nn.init.normal_(parameter, std=std)
    return layer


def prior_bias(probability: float) -> float:
    """Return the bias that starts a sigmoid at `probability` (arXiv:1708.02002, section 4.1)."""
    return -log((1 - probability) / probability)
