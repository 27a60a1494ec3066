"""Hook that starts and ends the loggers of a run."""

from collections.abc import Sequence
from pathlib import Path

from d2ext.engine.loggers import RunLogger
from detectron2.engine import HookBase


class RunLoggers(HookBase):
    """Tells loggers where a training starts, and ends them when all of its files are there.

    Args:
        loggers: empty in all processes but the first.
        folder: OUTPUT_DIR.
    """

    def __init__(self, loggers: Sequence[RunLogger], folder: Path) -> None:
        self.loggers, self.folder = loggers, folder

    def before_train(self) -> None:
        for each in self.loggers:
            each.start(self.trainer.start_iter - 1)

    def after_train(self) -> None:
        for each in self.loggers:
            each.finish(self.folder)
