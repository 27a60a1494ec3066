"""Hook that evaluates periodically and at the end."""

from collections.abc import Callable

from detectron2.engine import HookBase


class Evaluate(HookBase):
    """Calls `function` every `period` iterations and after the last one.

    The result goes to the event storage and to `metrics`, where later hooks read it. `metrics` is
    None in iterations without an evaluation.

    Args:
        period: in iterations; 0: only after the last one.
        function: returns metrics by name, the same in every process.
    """

    def __init__(self, period: int, function: Callable[[], dict[str, float]]) -> None:
        self.period, self.function = period, function
        self.metrics: dict[str, float] | None = None

    def before_step(self) -> None:
        self.metrics = None

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self.period > 0 and done % self.period == 0 and done < self.trainer.max_iter:
            self._evaluate()

    def after_train(self) -> None:
        self.metrics = None
        if self.trainer.iter >= self.trainer.max_iter:
            self._evaluate()

    def _evaluate(self) -> None:
        self.metrics = self.function()
        for name, value in self.metrics.items():
            self.trainer.storage.put_scalar(name, value, smoothing_hint=False)
