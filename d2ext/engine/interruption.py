"""Stopping on request: Ctrl-C and SIGTERM end a training after the iteration, saved."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from types import FrameType

from detectron2.utils import comm

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What a process that starts others sends to them. SIGTERM is how it ends them after a failure.
FORWARDED = getattr(signal, "SIGUSR1", None)  # not on Windows


class StopRequest:
    """The signal that asked to stop, 0 until one has."""

    def __init__(self) -> None:
        self.signal = 0

    def agreed(self) -> int:
        """Return the signal if any process received one; the same in every process."""
        if comm.get_world_size() == 1:
            return self.signal
        return max(comm.all_gather(self.signal))

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; end the process at once at the second."""
        if self.signal:
            os._exit(128 + number)  # not sys.exit, which waits for workers and runs hooks
        self.signal = number
        if parent_process() is None and comm.is_main_process():
            print("stopping after this iteration; once more stops at once", file=sys.stderr)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within it, Ctrl-C and SIGTERM are noted in the request that is yielded.

    A process that another one started is asked by that alone. In other threads than the main one
    nothing can be noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    own = SIGNALS if parent_process() is None else filter(None, [FORWARDED])
    before = {each: signal.signal(each, request.handle) for each in own}
    try:
        yield request
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def requests_forwarded(processes: Sequence[int]) -> Iterator[StopRequest]:
    """Within it, the first Ctrl-C or SIGTERM is passed on to processes; the second ends them.

    Args:
        processes: ids.
    """
    request = StopRequest()

    def forward(number: int, frame: FrameType | None) -> None:
        again = bool(request.signal)
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL if again or FORWARDED is None else FORWARDED)
        request.handle(number, frame)

    before = {each: signal.signal(each, forward) for each in SIGNALS}
    try:
        yield request
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
