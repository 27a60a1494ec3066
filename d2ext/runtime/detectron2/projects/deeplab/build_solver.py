"""Builder of learning rate schedules, including DeepLab's."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler as build_standard_lr_scheduler

from .lr_scheduler import WarmupPolyLR


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """Build `WarmupPolyLR` if `SOLVER.LR_SCHEDULER_NAME` names it, else the solver's schedule."""
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "WarmupPolyLR":
        return build_standard_lr_scheduler(cfg, optimizer)
    return WarmupPolyLR(
        optimizer,
        solver.MAX_ITER,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_iters=solver.WARMUP_ITERS,
        warmup_method=solver.WARMUP_METHOD,
        power=solver.POLY_LR_POWER,
        constant_ending=solver.POLY_LR_CONSTANT_ENDING,
    )
