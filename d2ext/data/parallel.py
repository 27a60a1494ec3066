"""Calling a function with many files, on all cores."""

import gc
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import cv2
from tqdm import tqdm

from d2ext.errors import DataError
from d2ext.processes import end_with_parent

File = TypeVar("File", bound=Hashable)
Result = TypeVar("Result")

_CHUNK = 256  # most files per message between processes
_MIN_FILES = 64  # fewer are done sooner than worker processes start

_pool: ProcessPoolExecutor | None = None  # within `worker_pool`


def map_files(
    function: Callable[[File], Result], files: Sequence[File], *, progress: str = ""
) -> dict[File, Result]:
    """Call `function` with each file once, in worker processes where there are many files.

    Args:
        progress: title of a progress bar on stderr; "" for no bar.
    Returns:
        The results by file, in the order of `files`.
    """
    unique = list(dict.fromkeys(files))
    with worker_pool(needed=len(unique) > _MIN_FILES):
        results = start_calls(function, unique) or map(function, unique)
        with tqdm(
            results, total=len(unique), unit="file", desc=progress, disable=not progress
        ) as bar:
            return dict(zip(unique, bar, strict=True))


def start_calls(
    function: Callable[[File], Result], files: Sequence[File]
) -> Iterator[Result] | None:
    """Start to call `function` with each file in workers, while the caller goes on.

    Returns:
        The results in the order of `files`; None where nothing is started: outside of
        `worker_pool`, and for a few files.
    """
    if _pool is None or len(files) <= _MIN_FILES:
        return None
    chunk = min(_CHUNK, -(-len(files) // (4 * _available_cores())))
    return _pool.map(function, files, chunksize=chunk)


@contextmanager
def worker_pool(needed: bool = True) -> Iterator[None]:
    """Keep worker processes for `map_files` and `start_calls` within the context.

    Forked workers share the memory that their parent has when they start, until one of them writes
    to it. So start them before millions of objects are made.

    Args:
        needed: false makes this do nothing, as do a single core and a context around this one.
    Raises:
        DataError: a worker was killed.
    """
    global _pool
    cores = _available_cores()
    if not needed or _pool is not None or cores == 1:
        yield
        return
    # A collection in a worker writes to every object it visits. Frozen objects it does not visit.
    gc.freeze()
    try:
        _pool = ProcessPoolExecutor(cores, initializer=_set_up_worker)
        _pool.submit(os.getpid)  # forks all workers now instead of at the first call
        yield
    except BrokenProcessPool as error:
        raise DataError(
            "a process that reads images was killed, as the system does when memory runs out. "
            "Close other programs, or split the data set."
        ) from error
    finally:
        if _pool is not None:
            _pool.shutdown(cancel_futures=True)
        _pool = None
        gc.unfreeze()


def _set_up_worker() -> None:
    end_with_parent()
    cv2.setNumThreads(0)  # there is a worker per core


def _available_cores() -> int:
    # A container or `taskset` may allow fewer cores than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
