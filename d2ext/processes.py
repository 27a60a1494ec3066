"""Child processes that end with the process that started them."""

import os
import signal
import threading
from multiprocessing import active_children, parent_process
from multiprocessing.process import BaseProcess
from types import FrameType

_GRACE = 20.0  # seconds that a worker lives on after SIGTERM


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, be it by SIGKILL; ignore Ctrl-C.

    A terminal sends Ctrl-C to the whole group of processes. The parent alone decides when to stop;
    workers that die by it would break the iteration that the parent finishes.

    For processes that `multiprocessing` started. A worker that is blocked on a full pipe would
    else live on.
    """
    parent = parent_process()
    if parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_wait_and_exit, args=(parent,), daemon=True).start()


def shield_worker(worker: int = 0) -> None:
    """End with the parent, and outlive SIGTERM for as long as the parent finishes its iteration.

    The `worker_init_fn` of data loaders. Cluster managers send SIGTERM to all processes of a job;
    a training saves itself then, for which it needs the rest of its batch.

    Args:
        worker: index that data loaders give; not used.
    """
    end_with_parent()
    if parent_process() is not None:
        signal.signal(signal.SIGTERM, _exit_later)


def end_children() -> None:
    """Kill the workers of a command that stops early.

    At its exit Python would ask them by SIGTERM and wait, but shielded workers outlive that for a
    while, and PyTorch takes the end of a worker for a failure.
    """
    if hasattr(signal, "SIGCHLD"):  # not on Windows
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in active_children():
        child.kill()


def _exit_later(number: int, frame: FrameType | None) -> None:
    timer = threading.Timer(_GRACE, os._exit, (128 + number,))
    timer.daemon = True
    timer.start()


def _wait_and_exit(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)  # sys.exit would end this thread only
