"""Logging of a run: everything to log.txt, what a person follows to the screen."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from d2ext.engine.run_folder import LOG
from detectron2.utils.events import CommonMetricPrinter

LOGGERS = ("d2ext", "detectron2", "fvcore")
PRINTER = CommonMetricPrinter.__module__  # the logger that prints a line of metrics
RESULT = "d2ext.result"  # the logger of lines that --quiet shows, too
NOTE_LINES = 25  # of a run's head that go to the screen

_FORMAT = "[%(asctime)s %(shortname)s]: %(message)s"
_VOLUMES: dict[str, Callable[[logging.LogRecord], bool]] = {
    "quiet": lambda record: record.levelno >= logging.WARNING or record.name == RESULT,
    "normal": lambda record: (
        record.levelno >= logging.WARNING
        or (record.levelno >= logging.INFO and record.name.startswith(("d2ext", PRINTER)))
    ),
    "verbose": lambda record: True,
}


@contextmanager
def logging_to(folder: Path, rank: int = 0, volume: str = "normal") -> Iterator[None]:
    """Log to the screen and to log.txt in `folder`; afterwards all loggers are as before.

    Args:
        rank: of the process; those above 0 write "log.txt.rank<rank>" only.
        volume: "quiet", "normal" or "verbose": what the screen shows.
    """
    name = LOG if rank == 0 else f"{LOG}.rank{rank}"
    handlers: list[logging.Handler] = [logging.FileHandler(folder / name, encoding="utf-8")]
    if rank == 0:
        handlers.append(ScreenHandler(volume))
    before = [_state(logging.getLogger(name)) for name in LOGGERS]
    for handler in handlers:
        handler.setFormatter(_Formatter(_FORMAT, "%m/%d %H:%M:%S"))
    for logger in map(logging.getLogger, LOGGERS):
        logger.handlers, logger.propagate = list(handlers), False
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        for logger, (own, level, propagate) in zip(
            map(logging.getLogger, LOGGERS), before, strict=True
        ):
            logger.handlers, logger.propagate = own, propagate
            logger.setLevel(level)
        handlers[0].close()


def log_notes(logger: logging.Logger, notes: Iterable[str]) -> None:
    """Log the lines of a run's head: `NOTE_LINES` on the screen, all of them in the file."""
    shown = 0
    for note in notes:
        shown += 1 + note.count("\n")
        logger.log(logging.INFO if shown <= NOTE_LINES else logging.DEBUG, note)
    if shown > NOTE_LINES:
        logger.info("%d more lines about this run are in %s", shown - NOTE_LINES, LOG)


class ScreenHandler(logging.StreamHandler):
    """Writes to what `sys.stdout` is at the time, as notebooks and tests exchange it."""

    def __init__(self, volume: str) -> None:
        super().__init__()
        self.addFilter(_VOLUMES[volume])

    @property  # type: ignore[override]
    def stream(self) -> TextIO:
        return sys.stdout

    @stream.setter
    def stream(self, value: TextIO) -> None:
        pass  # StreamHandler's constructor sets one


class _Formatter(logging.Formatter):
    """Shortens detectron2 to d2, as Detectron2's log has it, and marks warnings."""

    def format(self, record: logging.LogRecord) -> str:
        name = record.name
        record.shortname = f"d2{name[10:]}" if name.startswith("detectron2") else name
        text = super().format(record)
        return f"{record.levelname} {text}" if record.levelno >= logging.WARNING else text


def _state(logger: logging.Logger) -> tuple[list[logging.Handler], int, bool]:
    return logger.handlers, logger.level, logger.propagate
