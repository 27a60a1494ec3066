"""Loggers for the console and the log file, and rate-limited messages."""

import copy
import functools
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Collection, Hashable
from types import FrameType
from typing import Any

import torch
from tabulate import tabulate
from termcolor import colored

from .file_io import PathManager

__all__ = ["log_every_n", "log_every_n_seconds", "log_first_n", "setup_logger"]

DATE_FORMAT = "%m/%d %H:%M:%S"
PLAIN_FORMAT = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"


class _Formatter(logging.Formatter):
    """Formatter that abbreviates the root in its children's names: "detectron2.x" to "d2.x"."""

    def __init__(self, fmt: str, root: str, abbreviation: str) -> None:
        super().__init__(fmt, datefmt=DATE_FORMAT)
        self.root = root + "."
        self.abbreviation = abbreviation + "." if abbreviation else ""

    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)  # other handlers format the same record
        if record.name.startswith(self.root):
            record.name = self.abbreviation + record.name.removeprefix(self.root)
        return super().format(record)


class _ColorfulFormatter(_Formatter):
    """Formatter for a terminal: the level is shown in red from warnings on."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        if record.levelno < logging.WARNING:
            return line
        attribute = "blink" if record.levelno == logging.WARNING else "underline"
        return f"{colored(record.levelname, 'red', attrs=[attribute])} {line}"


@functools.lru_cache  # a second call would add handlers twice
def setup_logger(
    output: str | os.PathLike | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "detectron2",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Set up the logger `name`, which logs to standard output and to a file, and return it.

    Args:
        output: a .txt or .log file, or a folder for log.txt; None for no file. Ranks above 0
            append ".rank" and their number to the file's name.
        distributed_rank: only rank 0 writes to standard output.
        color: colours where standard output is a terminal.
        name: the root module whose messages are logged.
        abbrev_name: abbreviation of the root in the names of its submodules; "" drops it. By
            default "d2" for "detectron2", otherwise `name` itself.
        enable_propagation: also pass messages to the parent logger.
        configure_stdout: log to standard output.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    if abbrev_name is None:
        abbrev_name = "d2" if name == "detectron2" else name
    plain = _Formatter(PLAIN_FORMAT, name, abbrev_name)
    if configure_stdout and distributed_rank == 0:
        prefix = colored("[%(asctime)s %(name)s]: ", "green")
        formatter = _ColorfulFormatter(prefix + "%(message)s", name, abbrev_name)
        _add_handler(logger, logging.StreamHandler(sys.stdout), formatter if color else plain)
    if output is not None:
        filename = _log_file(os.fspath(output), distributed_rank)
        PathManager.mkdirs(os.path.dirname(filename) or ".")
        _add_handler(logger, logging.FileHandler(filename, encoding="utf-8"), plain)
    return logger


def _log_file(output: str, rank: int) -> str:
    is_file = output.endswith((".txt", ".log"))
    filename = output if is_file else os.path.join(output, "log.txt")
    return f"{filename}.rank{rank}" if rank > 0 else filename


def _add_handler(
    logger: logging.Logger, handler: logging.Handler, formatter: logging.Formatter
) -> None:
    handler.setLevel(logging.DEBUG)
    handler.setFormatter(formatter)
    logger.addHandler(handler)


_LOG_COUNTER: Counter = Counter()
_LOG_TIMES: dict[Hashable, float] = {}


def _caller() -> FrameType:
    """Return the frame that called a function of this module."""
    frame = sys._getframe(1)
    # Skip this module's own frames, to name the module that logs.
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _place(frame: FrameType) -> tuple[str, int, str]:
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name


def _logger_of(frame: FrameType, name: str | None) -> logging.Logger:
    module = frame.f_globals.get("__name__", "detectron2")
    return logging.getLogger(name or ("detectron2" if module == "__main__" else module))


def log_first_n(
    lvl: int,
    msg: str,
    n: int = 1,
    *,
    name: str | None = None,
    key: str | Collection[str] = "caller",
) -> None:
    """Log only the first `n` times.

    Args:
        lvl: level, as in `logging`.
        msg: the message.
        n: number of times.
        name: name of the logger; by default the caller's module.
        key: identity of a call: "caller" (the line of code), "message", or both.
    """
    frame = _caller()
    keys = (key,) if isinstance(key, str) else key
    identity: tuple[Any, ...] = tuple(keys)
    if "caller" in keys:
        identity += _place(frame)
    if "message" in keys:
        identity += (msg,)
    _LOG_COUNTER[identity] += 1
    if _LOG_COUNTER[identity] <= n:
        _logger_of(frame, name).log(lvl, msg)


def log_every_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log the first of every `n` calls from the same line; see `log_first_n`."""
    frame = _caller()
    _LOG_COUNTER[_place(frame)] += 1
    if n == 1 or _LOG_COUNTER[_place(frame)] % n == 1:
        _logger_of(frame, name).log(lvl, msg)


def log_every_n_seconds(lvl: int, msg: str, n: float = 1, *, name: str | None = None) -> None:
    """Log at most once in `n` seconds from the same line; see `log_first_n`."""
    frame, now = _caller(), time.monotonic()
    if now - _LOG_TIMES.get(_place(frame), -float("inf")) >= n:
        _logger_of(frame, name).log(lvl, msg)
        _LOG_TIMES[_place(frame)] = now


def create_small_table(small_dict: dict[str, Any]) -> str:
    """Format a table of one row of values under their keys."""
    return tabulate(
        [list(small_dict.values())],
        headers=list(small_dict),
        tablefmt="pipe",
        floatfmt=".3f",
        stralign="center",
        numalign="center",
    )


def _log_api_usage(identifier: str) -> None:
    torch._C._log_api_usage_once("detectron2." + identifier)
