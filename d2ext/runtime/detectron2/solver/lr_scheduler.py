"""Learning rate schedules by iteration."""

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
    """A parameter schedule with a warm-up.

    Args:
        scheduler: the schedule after the warm-up.
        warmup_factor: the first value, in multiples of the schedule's first.
        warmup_length: length of the warm-up as a fraction of the training, 0 to 1.
        warmup_method: "linear" rises to the schedule's value at its end; "constant" stays at the
            factor.
        rescale_interval: compress the whole schedule into the time after the warm-up, instead of
            dropping its beginning.

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
            # The warm-up must end at the value with which the schedule continues.
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
    """Schedule that multiplies every group's initial learning rate by an fvcore schedule.

    Args:
        optimizer: optimizer whose learning rates are set.
        multiplier: maps the fraction of the training, 0 to 1, to the factor.
        max_iter: total number of iterations.
        last_iter: the last finished iteration.

    Raises:
        ValueError: `multiplier` is not a `ParamScheduler`.
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
        """Return the initial rates and the iteration; the config defines everything else."""
        # Without the multiplier: a resumed run may have another config.
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group at this iteration."""
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [base_lr * factor for base_lr in self.base_lrs]


def _get_warmup_factor_at_iter(  # packages import this private name
    method: str, iter: int, warmup_iters: int, warmup_factor: float
) -> float:
    """Return the warm-up factor: from `warmup_factor` to 1, "linear" or "constant"."""
    if iter >= warmup_iters:
        return 1.0
    if method == "constant":
        return warmup_factor
    if method == "linear":
        return warmup_factor + (1 - warmup_factor) * iter / warmup_iters
    raise ValueError(f"Unknown warm-up '{method}': linear or constant.")


class WarmupMixin:
    """Methods of the schedules below: the warm-up of the first iterations.

    It has no constructor: `super(WarmupCosineLR, self).__init__(optimizer, last_epoch)` of packages
    is PyTorch's.
    """

    last_epoch: int
    base_lrs: list[float | Tensor]

    def _set_warmup(self, warmup_factor: float, warmup_iters: int, warmup_method: str) -> None:
        # Before the constructor of PyTorch's schedules, which asks for the first learning rate.
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = warmup_method

    def _decay(self) -> float:
        raise NotImplementedError

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group at this iteration."""
        warmup = _get_warmup_factor_at_iter(
            self.warmup_method, self.last_epoch, self.warmup_iters, self.warmup_factor
        )
        factor = warmup * self._decay()
        return [base_lr * factor for base_lr in self.base_lrs]

    def _compute_values(self) -> list[float | Tensor]:
        return self.get_lr()


class WarmupMultiStepLR(WarmupMixin, LRScheduler):
    """Multi-step schedule with warm-up; superseded by `LRMultiplier`.

    Args:
        optimizer: optimizer whose learning rates are set.
        milestones: increasing iterations.
        gamma: factor at each milestone.
        warmup_factor: factor of the first iteration.
        warmup_iters: length of the warm-up.
        warmup_method: "linear" or "constant".
        last_epoch: the last finished iteration.

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
        self._set_warmup(warmup_factor, warmup_iters, warmup_method)
        super().__init__(optimizer, last_epoch)

    def _decay(self) -> float:
        return self.gamma ** bisect_right(self.milestones, self.last_epoch)


class WarmupCosineLR(WarmupMixin, LRScheduler):
    """Half-cosine schedule to 0 at `max_iters`, with warm-up; superseded by `LRMultiplier`.

    Args:
        optimizer: optimizer whose learning rates are set.
        max_iters: total number of iterations.
        warmup_factor: factor of the first iteration.
        warmup_iters: length of the warm-up.
        warmup_method: "linear" or "constant".
        last_epoch: the last finished iteration.
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
        self._set_warmup(warmup_factor, warmup_iters, warmup_method)
        super().__init__(optimizer, last_epoch)

    def _decay(self) -> float:
        return 0.5 * (1 + math.cos(math.pi * self.last_epoch / self.max_iters))
