"""How the parameters of a layer start."""

from torch import nn


def init_normal(layer: nn.Module, std: float = 0.01, bias: float = 0.0) -> None:
    """Normal weights of mean zero and a constant bias, in a layer that has only these."""
    for name, parameter in layer.named_parameters(recurse=False):
        if name == "bias":
            nn.init.constant_(parameter, bias)
        else:
            nn.init.normal_(parameter, std=std)
