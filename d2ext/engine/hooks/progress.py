"""Hook that shows a progress bar on a terminal."""

import logging
import sys
from contextlib import ExitStack

from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from d2ext.engine.logs import LOGGERS, PRINTER
from d2ext.engine.memory import peak_memory
from detectron2.engine import HookBase


class ProgressBar(HookBase):
    """Shows iterations, time left, loss, learning rate and memory in one line.

    While it is open, lines of metrics go to the log file only, and other lines appear above it.
    """

    def __init__(self, period: int = 5) -> None:
        self.period = period
        self._open = ExitStack()
        self._bar: tqdm | None = None

    @staticmethod
    def wanted() -> bool:
        """Return true if stdout and stderr are terminals."""
        return sys.stdout.isatty() and sys.stderr.isatty()

    def before_train(self) -> None:
        loggers = [logging.getLogger(name) for name in LOGGERS]
        filters = [each for log in loggers for h in log.handlers for each in h.filters]
        self._open.enter_context(logging_redirect_tqdm([log for log in loggers if log.handlers]))
        for handler in [h for log in loggers for h in log.handlers]:
            if not isinstance(handler, logging.FileHandler) and not _writes_to_file(handler):
                handler.addFilter(_is_no_metric_line)
                for each in filters:  # tqdm's handlers start without those that they replace
                    handler.addFilter(each)
        self._bar = tqdm(
            total=self.trainer.max_iter, initial=self.trainer.start_iter, unit="it", leave=True
        )

    def after_step(self) -> None:
        if self._bar is None:
            return
        self._bar.total = self.trainer.max_iter
        self._bar.update()
        if self.trainer.iter % self.period == 0:
            self._bar.set_postfix(self._numbers(), refresh=False)

    def after_train(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._open.close()

    def _numbers(self) -> dict[str, str]:
        latest = self.trainer.storage.latest()
        shown = {"loss": "total_loss", "lr": "lr"}
        numbers = {k: f"{latest[v][0]:.4g}" for k, v in shown.items() if v in latest}
        return {**numbers, "memory": f"{peak_memory():.0f}M"}


def _is_no_metric_line(record: logging.LogRecord) -> bool:
    return record.name != PRINTER


def _writes_to_file(handler: logging.Handler) -> bool:
    # Detectron2 logs to its file through a plain StreamHandler, not a FileHandler.
    stream = getattr(handler, "stream", None)
    return stream not in (sys.stdout, sys.stderr)
