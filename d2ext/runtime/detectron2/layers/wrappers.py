"""Thin wrappers of PyTorch layers and functions.

They add normalisation and activation to a convolution, and losses that accept an empty batch.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import BatchNorm2d, ConvTranspose2d, Linear
from torch.nn import functional as F
from torch.nn.functional import interpolate

__all__ = [
    "BatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "Linear",
    "cat",
    "cross_entropy",
    "empty_input_loss_func_wrapper",
    "interpolate",
    "move_device_like",
    "nonzero_tuple",
    "shapes_to_tensor",
]


if TYPE_CHECKING:
    Tensors = list[Tensor] | tuple[Tensor, ...]
else:
    Tensors = list[Tensor]  # TorchScript needs a concrete type


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` followed by an optional `norm` module and an optional `activation`.

    Args:
        norm: a module applied to the convolution's output.
        activation: a callable applied last.
    """

    def __init__(
        self,
        *args: Any,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H', W')."""
        # TorchScript supports neither super() nor optional modules in expressions.
        x = self._conv_forward(x, self.weight, self.bias)
        if self.norm is not None:
            x = self.norm(x)
        if self.activation is not None:
            x = self.activation(x)
        return x


class _NewEmptyTensorOp(torch.autograd.Function):  # packages use it for empty inputs
    """An empty tensor of another shape that stays in the autograd graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, new_shape: Sequence[int]) -> Tensor:
        ctx.shape = x.shape
        return x.new_empty(new_shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.new_zeros(ctx.shape), None


def cat(tensors: Tensors, dim: int = 0) -> Tensor:
    """Concatenate tensors; return a single tensor as it is, without a copy."""
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(f"cat wants a list or tuple of tensors, got {type(tensors).__name__}")
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


def nonzero_tuple(x: Tensor) -> tuple[Tensor, ...]:
    """Return the indices of non-zero elements, one tensor per dimension; a scalar has one."""
    return x.nonzero(as_tuple=True)


def empty_input_loss_func_wrapper(loss_func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap `loss_func(input, target, reduction=...)` so that its mean is 0, not NaN, if empty."""

    def loss_of_possibly_empty(
        input: Tensor, target: Tensor, *, reduction: str = "mean", **kwargs: Any
    ) -> Tensor:
        if reduction == "mean" and target.numel() == 0:
            return 0.0 * input.sum()  # keeps the graph, so that every rank has gradients
        return loss_func(input, target, reduction=reduction, **kwargs)

    return loss_of_possibly_empty


cross_entropy = empty_input_loss_func_wrapper(F.cross_entropy)


def shapes_to_tensor(x: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Convert sizes to a 1-D tensor; sizes that are tensors (tracing) stay in the graph."""
    if any(isinstance(size, Tensor) for size in x):
        return torch.stack([torch.as_tensor(size, device=device) for size in x])
    return torch.as_tensor(x, device=device)


def at_most(limit: int, size: int) -> int:
    """Return the smaller one; a size that is a tensor (tracing) stays in the graph."""
    if isinstance(size, Tensor):
        return size.clamp(max=limit)
    return min(size, limit)


def move_device_like(src: Tensor, dst: Tensor) -> Tensor:
    """Move `src` to the device of `dst`."""
    return src.to(dst.device)
