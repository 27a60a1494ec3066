"""The polynomial learning rate schedule."""

from torch.optim import Optimizer

from detectron2.solver.lr_scheduler import LRScheduler, WarmupMixin

__all__ = ["WarmupPolyLR"]


class WarmupPolyLR(WarmupMixin, LRScheduler):
    """Learning rate proportional to a power of the fraction of iterations left, with warm-up.

    Args:
        optimizer: optimizer whose learning rates are set.
        max_iters: total number of iterations.
        warmup_factor: factor of the first iteration.
        warmup_iters: length of the warm-up.
        warmup_method: "linear" or "constant".
        last_epoch: the last finished iteration.
        power: exponent; 1 is linear.
        constant_ending: minimum of the schedule, in multiples of the initial learning rate.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
        power: float = 0.9,
        constant_ending: float = 0.0,
    ) -> None:
        self.max_iters = max_iters
        self.power = power
        self.constant_ending = constant_ending
        self._set_warmup(warmup_factor, warmup_iters, warmup_method)
        super().__init__(optimizer, last_epoch)

    def _decay(self) -> float:
        warm = self.last_epoch >= self.warmup_iters or self.warmup_factor == 1
        ending = self.constant_ending if warm else 0.0
        left = max(1 - self.last_epoch / self.max_iters, 0.0)
        return max(left**self.power, ending)
