"""Looking at many files at once."""

import os
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

File = TypeVar("File")
Found = TypeVar("Found")

_BATCH = 16  # files handed over at once
_ALONE = 64  # up to so many files are faster without starting processes


def probe_all(
    look: Callable[[File], Found], files: Sequence[File], *, progress: str = ""
) -> dict[File, Found]:
    """Call `look` with every file once, on all cores.

    Args:
        progress: what a progress bar on stderr says; "" for none.
    """
    unique = list(dict.fromkeys(files))
    loader = DataLoader(
        _Files(look, unique),
        batch_size=_BATCH,
        num_workers=0 if len(unique) <= _ALONE else _cores(),
        collate_fn=list,
        generator=torch.Generator(),  # else starting workers draws from the global one
    )
    found: list[Found] = []
    with tqdm(total=len(unique), unit="file", desc=progress, disable=not progress) as bar:
        for batch in loader:
            found += batch
            bar.update(len(batch))
    return dict(zip(unique, found, strict=True))


class _Files(Dataset, Generic[File, Found]):
    def __init__(self, look: Callable[[File], Found], files: Sequence[File]) -> None:
        self.look, self.files = look, files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Found:
        return self.look(self.files[index])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
