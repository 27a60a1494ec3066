"""Mistakes of the person at the keyboard: shown as one message, without a traceback."""

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from d2ext.processes import end_children


class UserError(Exception):
    """Something the user can mend; the message names the file, the field and the remedy."""


class ConfigError(UserError):
    """A config file, a key or a value on the command line."""


class DataError(UserError):
    """Annotations, images or their folder."""


class NoImagesError(DataError):
    """A split that is there and lists no image: nothing to learn from or to measure with."""


class WeightsError(UserError):
    """A file of weights or a checkpoint."""


class OutputError(UserError):
    """The output folder: not writable, or the disk is full."""


# Errors of writing that say nothing about a command itself, wherever it meets them.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class Interrupted(Exception):
    """Ctrl-C or SIGTERM ended a command in good order; the message says how to go on.

    Args:
        message: one line.
        signal: number of the signal; the exit status is 128 more.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def exit_on_user_error(main: Callable[[], int | None]) -> NoReturn:
    """Run a command: exit status as it returns, or 2 with one message on stderr for a `UserError`.

    Ctrl-C gives one line and exit status 130, SIGTERM that a training has handled 143.
    `D2EXT_TRACEBACK=1` in the environment shows where the error came from.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of others may have surrogates, which no terminal takes; stderr escapes them unasked.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
    except UserError as error:
        if os.environ.get("D2EXT_TRACEBACK") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        status = 128 + stop.signal
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        _discard_output()  # `| head` has read enough
        status = 128 + 13
    except OSError as error:
        if error.errno not in _FULL or os.environ.get("D2EXT_TRACEBACK") == "1":
            raise
        _discard_output()
        place = error.filename or "a file or the output of this command"
        print(f"error: {place}: cannot be written ({error.strerror}).", file=sys.stderr)
        sys.exit(2)
    if status and status > 128:
        end_children()
    sys.exit(status or 0)


def _discard_output() -> None:
    """Let Python write at its exit what nobody takes, without another error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
