"""Sigmoid focal loss in plain PyTorch."""

from typing import NamedTuple

import torch
from torch import Tensor


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, alpha: float, gamma: float, sum: bool
) -> Tensor:
    """Return the focal loss of each logit or, if `sum`, their sum; shapes as in `d2ext.ops`."""
    terms = _terms(inputs, targets, alpha)
    loss = terms.weight * terms.cross_entropy * terms.miss**gamma
    return loss.sum() if sum else loss


def sigmoid_focal_loss_backward(
    grad_output: Tensor, inputs: Tensor, targets: Tensor, alpha: float, gamma: float, sum: bool
) -> Tensor:
    """Return the gradient of the logits, in their dtype; `grad_output` is a scalar if `sum`."""
    terms = _terms(inputs, targets, alpha)
    # Where `miss` underflows to 0, so does yes * no: the quotient is 0 instead of NaN.
    least = torch.finfo(torch.float32).tiny
    miss_slope = terms.yes * terms.no * (1 - 2 * terms.targets) / terms.miss.clamp(min=least)
    entropy_slope = terms.yes * (1 - terms.targets) - terms.no * terms.targets
    slope = entropy_slope + gamma * terms.cross_entropy * miss_slope
    return (grad_output * terms.weight * terms.miss**gamma * slope).to(inputs.dtype)


class _Terms(NamedTuple):
    """Terms per logit that both passes need.

    Attributes:
        yes, no: the probability p and 1 - p. Neither is computed as a difference, which would lose
            all digits of a small one.
        cross_entropy: binary cross-entropy without a weight.
        miss: 1 - p_t in the paper.
        weight: alpha_t in the paper; 0 for ignored rows.
        targets: in [0, 1].
    """

    yes: Tensor
    no: Tensor
    cross_entropy: Tensor
    miss: Tensor
    weight: Tensor
    targets: Tensor


def _terms(inputs: Tensor, targets: Tensor, alpha: float) -> _Terms:
    logits = inputs.float() if inputs.dtype != torch.float64 else inputs
    counted = None
    if targets.ndim < inputs.ndim:
        counted = targets.unsqueeze(-1) >= 0
        # The dtype is named for exports to ONNX by PyTorch 2.10, whose default there is a float.
        classes = torch.arange(inputs.shape[-1], dtype=targets.dtype, device=inputs.device)
        targets = targets.unsqueeze(-1) == classes
    targets = targets.to(logits.dtype)
    weight = 1 - alpha + (2 * alpha - 1) * targets if alpha >= 0 else torch.ones_like(targets)
    yes, no = logits.sigmoid(), (-logits).sigmoid()
    # cross_entropy = -t * log(p) - (1 - t) * log(1 - p), in the form whose exp can't overflow.
    return _Terms(
        yes=yes,
        no=no,
        cross_entropy=logits.clamp(min=0) - logits * targets + (-logits.abs()).exp().log1p(),
        miss=yes * (1 - targets) + no * targets,
        weight=weight if counted is None else weight * counted,
        targets=targets,
    )
