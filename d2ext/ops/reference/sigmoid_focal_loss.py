"""Focal loss in plain PyTorch."""

from typing import NamedTuple

import torch
from torch import Tensor


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, alpha: float, gamma: float, sum: bool
) -> Tensor:
    """The loss of each logit or, on request, their sum; shapes as in `d2ext.ops`."""
    terms = _terms(inputs, targets, alpha)
    loss = terms.weight * terms.cross_entropy * terms.miss**gamma
    return loss.sum() if sum else loss


def sigmoid_focal_loss_backward(
    grad_output: Tensor, inputs: Tensor, targets: Tensor, alpha: float, gamma: float, sum: bool
) -> Tensor:
    """Gradient of the logits, in their dtype; the gradient of a sum has no dimensions."""
    terms = _terms(inputs, targets, alpha)
    least = torch.finfo(torch.float32).tiny  # where miss is zero, so is the probability's slope
    miss_slope = terms.yes * terms.no * (1 - 2 * terms.targets) / terms.miss.clamp(min=least)
    entropy_slope = terms.yes * (1 - terms.targets) - terms.no * terms.targets
    slope = entropy_slope + gamma * terms.cross_entropy * miss_slope
    return (grad_output * terms.weight * terms.miss**gamma * slope).to(inputs.dtype)


class _Terms(NamedTuple):
    """What both passes need, of each logit.

    Attributes:
        yes, no: the probability and what is left of 1, neither of them a difference.
        cross_entropy: without a weight.
        miss: share of the probability that is not where the target is; 1 - p_t in the paper.
        weight: alpha_t in the paper; zero where there is nothing to learn.
        targets: between 0 and 1.
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
        targets = targets.unsqueeze(-1) == torch.arange(inputs.shape[-1], device=inputs.device)
    targets = targets.to(logits.dtype)
    weight = 1 - alpha + (2 * alpha - 1) * targets if alpha >= 0 else torch.ones_like(targets)
    yes, no = logits.sigmoid(), (-logits).sigmoid()
    return _Terms(
        yes=yes,
        no=no,
        cross_entropy=logits.clamp(min=0) - logits * targets + (-logits.abs()).exp().log1p(),
        miss=yes * (1 - targets) + no * targets,
        weight=weight if counted is None else weight * counted,
        targets=targets,
    )
