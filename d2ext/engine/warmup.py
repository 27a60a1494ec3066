"""Learning-rate schedules that Detectron2 lacks: polynomial decay, and warm-up by a power of time.

Source of the polynomial: Chen et al., "DeepLab", 2017, arXiv:1606.00915, section 4.1.2.
"""

from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    PolynomialDecayParamScheduler,
)
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier
from detectron2.solver import build_lr_scheduler as detectron2_schedule
from detectron2.solver.lr_scheduler import WarmupParamScheduler

POWER = "power"
POLY = "WarmupPolyLR"
POLY_POWER = 0.9


class PowerWarmup(ParamScheduler):
    """A schedule multiplied by (time / length) ** power during the warm-up.

    Args:
        schedule: of the whole training.
        length: of the warm-up, as a share of the training.
        power: 1 is linear; 4 keeps the rate low for longer.
    """

    def __init__(self, schedule: ParamScheduler, length: float, power: float) -> None:
        self.schedule, self.length, self.power = schedule, length, power

    def __call__(self, where: float) -> float:
        rise = (where / self.length) ** self.power if where < self.length else 1.0
        return rise * self.schedule(where)


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """Build Detectron2's schedules and `WarmupPolyLR`, also with `SOLVER.WARMUP_METHOD: power`.

    Raises:
        ConfigError: the schedule does not support this warm-up.
    """
    solver = cfg.SOLVER
    if solver.WARMUP_METHOD != POWER and solver.LR_SCHEDULER_NAME != POLY:
        return detectron2_schedule(cfg, optimizer)
    # fvcore's schedules are functions of the training's progress, 0 to 1.
    length = solver.WARMUP_ITERS / solver.MAX_ITER
    multiplier: ParamScheduler
    if solver.WARMUP_METHOD == POWER:
        multiplier = PowerWarmup(_schedule(cfg), length, solver.WARMUP_POWER)
    else:
        multiplier = WarmupParamScheduler(
            _schedule(cfg), solver.WARMUP_FACTOR, min(length, 1.0), solver.WARMUP_METHOD
        )
    return LRMultiplier(optimizer, multiplier=multiplier, max_iter=solver.MAX_ITER)


def _schedule(cfg: CfgNode) -> ParamScheduler:
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR":
        return CosineParamScheduler(1.0, solver.BASE_LR_END / solver.BASE_LR)
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        steps = [step for step in solver.STEPS if step < solver.MAX_ITER]
        values = [solver.GAMMA**count for count in range(len(steps) + 1)]
        return MultiStepParamScheduler(values, num_updates=solver.MAX_ITER, milestones=steps)
    if solver.LR_SCHEDULER_NAME == POLY:
        return PolynomialDecayParamScheduler(1.0, POLY_POWER)
    raise ConfigError(
        f"SOLVER.WARMUP_METHOD {POWER} goes with WarmupCosineLR, WarmupMultiStepLR and {POLY}, not "
        f"with SOLVER.LR_SCHEDULER_NAME {solver.LR_SCHEDULER_NAME}."
    )
