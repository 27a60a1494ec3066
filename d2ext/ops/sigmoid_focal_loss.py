"""Sigmoid focal loss on logits.

Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, arXiv:1708.02002, equation 5.
"""

from typing import Any

import torch
from torch import Tensor

from d2ext.ops import reference
from d2ext.ops.decomposition import register_decomposition
from d2ext.ops.differentiation import register_differentiable_once

torch.library.define(
    "d2ext::sigmoid_focal_loss",
    "(Tensor inputs, Tensor targets, float alpha, float gamma, bool sum) -> Tensor",
)
torch.library.define(
    "d2ext::sigmoid_focal_loss_backward",
    "(Tensor grad_output, Tensor inputs, Tensor targets, float alpha, float gamma, bool sum)"
    " -> Tensor",
)
torch.library.impl(
    "d2ext::sigmoid_focal_loss", "CompositeExplicitAutograd", reference.sigmoid_focal_loss
)
torch.library.impl(
    "d2ext::sigmoid_focal_loss_backward",
    "CompositeExplicitAutograd",
    reference.sigmoid_focal_loss_backward,
)


def sigmoid_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha: float = -1,
    gamma: float = 2,
    reduction: str = "none",
) -> Tensor:
    """Compute the focal loss: binary cross-entropy, down-weighted where the prediction is right.

    The same function as fvcore's, in one pass over the logits and without temporaries of their
    size: loss = -alpha_t * (1 - p_t) ** gamma * log(p_t).

    Args:
        inputs: logits, floats of any shape. Half types are computed in float32, under autocast too.
        targets: either probabilities in [0, 1] or bools, in the shape of `inputs`; or int64 class
            indices of the shape (...) where `inputs` is (..., K): K and above is background, a
            negative index is ignored (neither loss nor gradient).
        alpha: weight of positives, in [0, 1]; negatives weigh 1 - alpha. Below 0: no weighting.
        gamma: exponent of the modulating factor, at least 0.
        reduction: "none", "mean" (over all logits, ignored ones included) or "sum".
    Returns:
        Shape of `inputs`, or a scalar tensor; float64 for float64 inputs, otherwise float32.
        Differentiable once with respect to `inputs`.
    Raises:
        ValueError: shapes, dtypes or devices do not fit each other, or an option is out of range.
    """
    _check_tensors(inputs, targets)
    if alpha > 1 or gamma < 0 or reduction not in ("none", "mean", "sum"):
        raise ValueError(
            "alpha must be at most 1, gamma at least 0 and reduction one of 'none', 'mean' and "
            f"'sum', got {alpha}, {gamma} and {reduction!r}"
        )
    # The kernel sums; the mean divides outside, where autograd differentiates it.
    loss = torch.ops.d2ext.sigmoid_focal_loss(inputs, targets, alpha, gamma, reduction != "none")
    return loss / inputs.numel() if reduction == "mean" else loss


def _check_tensors(inputs: Tensor, targets: Tensor) -> None:
    if not inputs.is_floating_point() or targets.device != inputs.device:
        raise ValueError(
            f"inputs must be floats on the device of targets, got {inputs.dtype} on "
            f"{inputs.device} and targets on {targets.device}"
        )
    if targets.requires_grad:
        raise ValueError("this loss has no gradient with respect to targets: detach them")
    if targets.shape == inputs.shape:
        return
    if targets.dtype != torch.int64 or targets.shape != inputs.shape[:-1]:
        raise ValueError(
            f"targets must be {tuple(inputs.shape)}, or int64 classes {tuple(inputs.shape[:-1])}, "
            f"got {tuple(targets.shape)}, {targets.dtype}"
        )


@torch.library.register_fake("d2ext::sigmoid_focal_loss")
def _fake(inputs: Tensor, targets: Tensor, alpha: float, gamma: float, sum: bool) -> Tensor:
    # float32 for half types too: a sum over all anchors would overflow float16.
    dtype = torch.float64 if inputs.dtype == torch.float64 else torch.float32
    return inputs.new_empty(() if sum else inputs.shape, dtype=dtype)


@torch.library.register_fake("d2ext::sigmoid_focal_loss_backward")
def _fake_backward(grad_output: Tensor, inputs: Tensor, *_: object) -> Tensor:
    return inputs.new_empty(inputs.shape)


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    logits, targets, *ctx.options = inputs
    ctx.save_for_backward(logits, targets)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    grad = torch.ops.d2ext.sigmoid_focal_loss_backward(
        grad_output, *ctx.saved_tensors, *ctx.options
    )
    return grad, None, None, None, None


torch.library.register_autograd("d2ext::sigmoid_focal_loss", _backward, setup_context=_save)
register_differentiable_once("sigmoid_focal_loss")
register_decomposition("sigmoid_focal_loss", reference.sigmoid_focal_loss)
