"""Learning rates as functions of the iteration."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class WarmupParamScheduler(CompositeParamScheduler):
    """A schedule that begins low.

    Args:
        scheduler: the schedule from the end of the warm-up on.
        warmup_factor: the first value, in multiples of the schedule's first.
        warmup_length: of the warm-up, as a part of the whole, 0 to 1.
        warmup_method: "linear" ends where the schedule is by then; "constant" stays at the factor.
        rescale_interval: squeeze the whole schedule into what the warm-up leaves, rather than
            drop its beginning.

    Raises:
        ValueError: the method is unknown.
    """

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ) -> None:
        first = warmup_factor * scheduler(0.0)
        warmup: ParamScheduler
        if warmup_method == "linear":
            last = scheduler(0.0) if rescale_interval else scheduler(warmup_length)
            warmup = LinearParamScheduler(first, last)
        elif warmup_method == "constant":
            warmup = ConstantParamScheduler(first)
        else:
            raise ValueError(f"Unknown warm-up '{warmup_method}': linear or constant.")
        super().__init__(
            [warmup, scheduler],
            lengths=[warmup_length, 1 - warmup_length],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
        )


class LRMultiplier(LRScheduler):
    """Every group's initial learning rate times a schedule of fvcore's.

    Args:
        optimizer: whose learning rates are set.
        multiplier: from a part of the training, 0 to 1, to the factor.
        max_iter: iterations of the whole training.
        last_iter: the iteration before the next step.

    Raises:
        ValueError: `multiplier` is no `ParamScheduler`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        multiplier: ParamScheduler,
        max_iter: int,
        last_iter: int = -1,
    ) -> None:
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(f"LRMultiplier needs an fvcore ParamScheduler, got {multiplier!r}.")
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict[str, Any]:
        """Only what the config does not say: the initial rates and the iteration."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of every group at this iteration."""
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [base_lr * factor for base_lr in self.base_lrs]


def _get_warmup_factor_at_iter(  # packages call it by this name
    method: str, iter: int, warmup_iters: int, warmup_factor: float
) -> float:
    """From `warmup_factor` to 1, "linear" or all at once ("constant"), within `warmup_iters`."""
    if iter >= warmup_iters:
        return 1.0
    if method == "constant":
        return warmup_factor
    if method == "linear":
        return warmup_factor + (1 - warmup_factor) * iter / warmup_iters
    raise ValueError(f"Unknown warm-up '{method}': linear or constant.")


class _WarmupLR(LRScheduler):
    """What the two schedules below share: the warm-up of the first iterations."""

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_factor: float,
        warmup_iters: int,
        warmup_method: str,
        last_epoch: int,
    ) -> None:
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = warmup_method
        super().__init__(optimizer, last_epoch)

    def _decay(self) -> float:
        raise NotImplementedError

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of every group at this iteration."""
        warmup = _get_warmup_factor_at_iter(
            self.warmup_method, self.last_epoch, self.warmup_iters, self.warmup_factor
        )
        factor = warmup * self._decay()
        return [base_lr * factor for base_lr in self.base_lrs]

    def _compute_values(self) -> list[float | Tensor]:
        return self.get_lr()


class WarmupMultiStepLR(_WarmupLR):
    """Steps of `gamma` at the milestones, after a warm-up; superseded by `LRMultiplier`.

    Args:
        optimizer: whose learning rates are set.
        milestones: increasing iterations.
        gamma: factor at each milestone.
        warmup_factor: of the first iteration.
        warmup_iters: length of the warm-up.
        warmup_method: "linear" or "constant".
        last_epoch: the iteration before the next step.

    Raises:
        ValueError: the milestones do not increase.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ) -> None:
        if list(milestones) != sorted(milestones):
            raise ValueError(f"Milestones have to increase, got {list(milestones)}.")
        self.milestones = milestones
        self.gamma = gamma
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def _decay(self) -> float:
        return self.gamma ** bisect_right(self.milestones, self.last_epoch)


class WarmupCosineLR(_WarmupLR):
    """Half a cosine down to 0 at `max_iters`, times a warm-up; superseded by `LRMultiplier`.

    Args:
        optimizer: whose learning rates are set.
        max_iters: iterations of the whole training.
        warmup_factor: of the first iteration.
        warmup_iters: length of the warm-up.
        warmup_method: "linear" or "constant".
        last_epoch: the iteration before the next step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ) -> None:
        self.max_iters = max_iters
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def _decay(self) -> float:
        return 0.5 * (1 + math.cos(math.pi * self.last_epoch / self.max_iters))
