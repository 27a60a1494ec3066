"""Learning-rate schedules with a warm-up by a power of time, which Detectron2 lacks."""

from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
)
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier
from detectron2.solver import build_lr_scheduler as detectron2_schedule

POWER = "power"


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
    """Build Detectron2's schedule, or the same with `SOLVER.WARMUP_METHOD: power`.

    Raises:
        ConfigError: the schedule does not support this warm-up.
    """
    solver = cfg.SOLVER
    if solver.WARMUP_METHOD != POWER:
        return detectron2_schedule(cfg, optimizer)
    # fvcore's schedules are functions of the training's progress, 0 to 1.
    length = solver.WARMUP_ITERS / solver.MAX_ITER
    multiplier = PowerWarmup(_schedule(cfg), length, solver.WARMUP_POWER)
    return LRMultiplier(optimizer, multiplier=multiplier, max_iter=solver.MAX_ITER)


def _schedule(cfg: CfgNode) -> ParamScheduler:
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR":
        return CosineParamScheduler(1.0, solver.BASE_LR_END / solver.BASE_LR)
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        steps = [step for step in solver.STEPS if step < solver.MAX_ITER]
        values = [solver.GAMMA**count for count in range(len(steps) + 1)]
        return MultiStepParamScheduler(values, num_updates=solver.MAX_ITER, milestones=steps)
    raise ConfigError(
        f"SOLVER.WARMUP_METHOD {POWER} goes with WarmupCosineLR and WarmupMultiStepLR, not with "
        f"SOLVER.LR_SCHEDULER_NAME {solver.LR_SCHEDULER_NAME}."
    )
