"""Child processes that end with the process that started them."""

import os
import threading
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess


def end_with_parent(worker: int = 0) -> None:
    """End this process as soon as its parent has ended, be it by SIGKILL.

    For processes that `multiprocessing` started: training ranks and, as their `worker_init_fn`,
    the workers of data loaders. A worker that is blocked on a full pipe would else live on.

    Args:
        worker: index that data loaders give; not used.
    """
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_wait_and_exit, args=(parent,), daemon=True).start()


def _wait_and_exit(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)  # sys.exit would end this thread only
