"""TensorFlow's "SAME" padding of timm's layers, as short expressions of symbolic sizes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torch import Tensor, nn

_MODULE = "timm.layers.padding"


def same_padding(size: Any, kernel: int, stride: int, dilation: int) -> Any:
    """Return the padding of an axis in pixels, as timm's `get_same_padding` does.

    Args:
        size: pixels of the axis, a symbolic number in `torch.export`.
    """
    padding = dilation * (kernel - 1) - (size - 1) % stride
    return padding.clamp(min=0) if isinstance(padding, Tensor) else max(padding, 0)


def has_same_padding(model: nn.Module) -> bool:
    """Return true if layers of timm pad a model's feature maps as their sizes need it."""
    kinds = {type(layer) for layer in model.modules()}
    return any(kind.__module__.startswith("timm.") and "Same" in kind.__name__ for kind in kinds)


@contextmanager
def short_same_padding() -> Iterator[None]:
    """Let timm's layers, if there are any, pad by `same_padding`.

    timm rounds up a quotient of floating-point numbers, which PyTorch does not simplify: every
    stride then makes the expression of a size several times as long, and `torch.export` of a
    network of five takes minutes. The remainder of an integer division is a constant wherever
    images are padded to a multiple of the strides.
    """
    module = sys.modules.get(_MODULE)
    if module is None:
        yield
        return
    with patch.object(module, "get_same_padding", same_padding):
        yield
