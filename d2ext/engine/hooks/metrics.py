"""Writes metrics now and then, and lets them go on after a resume where they stopped."""

import sys
from collections.abc import Sequence
from typing import Any

import torch

from d2ext.engine.hooks.evaluation import Evaluate
from d2ext.engine.metrics_file import WINDOW, MetricsFile
from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils.events import EventStorage, EventWriter

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

MEMORY = "max_memory_mb"
# Of one process: a resumed one measures anew.
CLOCK = {"time", "data_time", "eta_seconds", MEMORY}


class WriteMetrics(PeriodicWriter):
    """Detectron2's PeriodicWriter with a state: the last metrics and how far they are written.

    Args:
        writers: none in processes other than the first.
        evaluate: a hook before this one; its metrics are written at once.
        period: iterations.
    """

    def __init__(
        self, writers: Sequence[EventWriter], evaluate: Evaluate, period: int = 20
    ) -> None:
        super().__init__(writers, period)
        self.writers, self.evaluate, self.period = writers, evaluate, period
        self.files = [writer for writer in writers if isinstance(writer, MetricsFile)]
        self._saved: dict[str, Any] | None = None

    def before_train(self) -> None:
        if self._saved is not None:
            _fill(self.trainer.storage, self._saved["metrics"])
        for file in self.files:
            if self._saved is None:
                file.start()
            else:
                file.resume(self._saved["written"])

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.period == 0 or done == self.trainer.max_iter or self.evaluate.metrics:
            if self.writers:
                self.trainer.storage.put_scalar(MEMORY, peak_memory(), smoothing_hint=False)
            for writer in self.writers:
                writer.write()

    def state_dict(self) -> dict[str, Any]:
        written = max((file.written for file in self.files), default=-1)
        return {"written": written, "metrics": _recent(self.trainer.storage)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict


def peak_memory() -> float:
    """MiB: of tensors on the GPU where there is one in use, else of the process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    if resource is None:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _recent(storage: EventStorage) -> dict[str, dict[str, Any]]:
    """What later lines of metrics.json can depend on: the last values of each metric."""
    hints = storage.smoothing_hints()
    return {
        name: {"smooth": hints[name], "values": history.values()[-WINDOW:]}
        for name, history in storage.histories().items()
        if name not in CLOCK
    }


def _fill(storage: EventStorage, metrics: dict[str, dict[str, Any]]) -> None:
    for name, history in metrics.items():
        for value, iteration in history["values"]:
            storage.put_scalar(
                name, value, smoothing_hint=history["smooth"], cur_iter=int(iteration)
            )
