"""Find weights that are not finite."""

import torch
from torch import nn

from d2ext.errors import WeightsError
from d2ext.text import first_few


def non_finite_parameters(model: nn.Module) -> list[str]:
    """List the names of parameters and buffers that hold a NaN or an infinity."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return [n for n, t in named if t.is_floating_point() and not bool(torch.isfinite(t).all())]


def refuse_non_finite(model: nn.Module, path: str) -> None:
    """Refuse weights with which a model predicts nothing.

    Args:
        path: the file that they were loaded from, for the message.
    Raises:
        WeightsError: a weight is NaN or infinite.
    """
    bad = non_finite_parameters(model)
    if bad:
        raise WeightsError(
            f"{path}: {len(bad)} weights are not finite ({first_few(bad, 3)}): the training that "
            "wrote them diverged. Take an earlier checkpoint, or train with a lower SOLVER.BASE_LR."
        )
