"""Calling a function with many files, on all cores."""

import gc
import os
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

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
    loader = DataLoader(
        _Calls(function, unique),
        batch_size=_BATCH,
        num_workers=cores if cores > 1 and len(unique) > _MIN_FILES else 0,
        collate_fn=list,
        # Without a generator of its own, starting workers would draw from the global one and
        # change what a seeded run draws next.
        generator=torch.Generator(),
    )
    # A collection in a worker writes to every object it visits; frozen ones it does not visit, so
    # that the pages of the parent's memory stay shared.
    gc.freeze()
    try:
        results: list[Result] = []
        with tqdm(total=len(unique), unit="file", desc=progress, disable=not progress) as bar:
            for batch in loader:
                results += batch
                bar.update(len(batch))
    finally:
        gc.unfreeze()
    return dict(zip(unique, results, strict=True))


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
