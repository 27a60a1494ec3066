"""Hook that writes metrics periodically and continues them after a resume."""

from collections.abc import Sequence
from typing import Any

from d2ext.engine.hooks.evaluation import Evaluate
from d2ext.engine.memory import peak_memory
from d2ext.engine.metrics_file import WINDOW, MetricsFile
from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils.events import EventStorage, EventWriter

MEMORY = "max_memory_mb"
# Measured per process: after a resume they start again.
CLOCK = {"time", "data_time", "eta_seconds", MEMORY}


class WriteMetrics(PeriodicWriter):
    """Detectron2's PeriodicWriter with a state: recent metrics and the last iteration written.

    Args:
        writers: empty in all processes but the first.
        evaluate: the hook that evaluates; it must precede this one. Its metrics are written at
            once.
        period: in iterations.
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


def _recent(storage: EventStorage) -> dict[str, dict[str, Any]]:
    """Return the last values of each metric, on which smoothed values of later lines depend."""
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
