"""Calling a function with many files, on all cores."""

import gc
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from d2ext.processes import shield_worker

File = TypeVar("File", bound=Hashable)
Result = TypeVar("Result")

_BATCH = 16  # files per message between processes
_MIN_FILES = 64  # fewer are done sooner than worker processes start


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
    cores = _available_cores()
    parallel = cores > 1 and len(unique) > _MIN_FILES
    batches = _call_in_workers(function, unique, cores) if parallel else _call(function, unique)
    results: list[Result] = []
    with tqdm(total=len(unique), unit="file", desc=progress, disable=not progress) as bar:
        for batch in batches:
            results += batch
            bar.update(len(batch))
    return dict(zip(unique, results, strict=True))


def _call(function: Callable[[File], Result], files: Sequence[File]) -> Iterator[list[Result]]:
    for start in range(0, len(files), _BATCH):
        yield [function(file) for file in files[start : start + _BATCH]]


def _call_in_workers(
    function: Callable[[File], Result], files: Sequence[File], workers: int
) -> Iterator[list[Result]]:
    loader = DataLoader(
        _Calls(function, files),
        batch_size=_BATCH,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=shield_worker,
        # Without a generator of its own, starting workers would draw from the global one and
        # change what a seeded run draws next.
        generator=torch.Generator(),
    )
    # A collection in a worker writes to every object it visits. Frozen objects it does not visit,
    # so that the pages of the parent's memory stay shared.
    gc.freeze()
    try:
        yield from loader
    finally:
        gc.unfreeze()


class _Calls(Dataset, Generic[File, Result]):
    """The results of a function, computed when they are asked for."""

    def __init__(self, function: Callable[[File], Result], files: Sequence[File]) -> None:
        self.function, self.files = function, files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Result:
        return self.function(self.files[index])


def _available_cores() -> int:
    # A container or `taskset` may allow fewer cores than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
