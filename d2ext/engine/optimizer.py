"""Build the optimizer from `SOLVER`."""

import torch
from torch import nn

from d2ext.engine.param_groups import build_param_groups
from d2ext.errors import ConfigError
from detectron2.config import CfgNode


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build SGD or AdamW with the parameter groups of `SOLVER`; see `build_param_groups`.

    Raises:
        ConfigError: SOLVER.OPTIMIZER is neither, or a rule of SOLVER.PARAM_GROUPS is wrong.
    """
    solver = cfg.SOLVER
    groups = build_param_groups(cfg, model)
    if solver.OPTIMIZER == "ADAMW":
        # One fused kernel per group instead of several passes over each parameter.
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
