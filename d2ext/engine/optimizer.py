"""The optimizer of a model, with rules for norms, biases, position tables and the backbone."""

from collections.abc import Callable

import torch
from torch import nn

from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.solver import get_default_optimizer_params

# Names that position embeddings and relative position biases have in published models.
POSITION_TABLES = ("relative_position_bias_table", "absolute_pos_embed", "pos_embed")
BOTTOM_UP = ".bottom_up."  # what Detectron2's FPN calls the backbone below it


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW as `SOLVER` says.

    Norms decay by WEIGHT_DECAY_NORM, biases by WEIGHT_DECAY_BIAS, position tables by
    WEIGHT_DECAY_POSITION; the bottom-up backbone learns at BACKBONE_MULTIPLIER x BASE_LR.

    Raises:
        ConfigError: SOLVER.OPTIMIZER is neither.
    """
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        lr_factor_func=_backbone_factor(model, solver.BACKBONE_MULTIPLIER),
        overrides={
            name: {"weight_decay": solver.WEIGHT_DECAY_POSITION} for name in POSITION_TABLES
        },
    )
    if solver.OPTIMIZER == "ADAMW":
        return torch.optim.AdamW(
            groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, fused=True
        )
    if solver.OPTIMIZER == "SGD":
        return torch.optim.SGD(
            groups,
            lr=solver.BASE_LR,
            momentum=solver.MOMENTUM,
            nesterov=solver.NESTEROV,
            weight_decay=solver.WEIGHT_DECAY,
        )
    raise ConfigError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER!r}; it must be SGD or ADAMW.")


def _backbone_factor(model: nn.Module, multiplier: float) -> Callable[[str], float]:
    """The learning rate of a parameter, by name, in multiples of the base rate."""
    names = [name for name, _ in model.named_parameters()]
    has_pyramid = any(BOTTOM_UP in name for name in names)

    def factor(name: str) -> float:
        below = BOTTOM_UP in name if has_pyramid else name.startswith("backbone.")
        return multiplier if below else 1.0

    return factor
