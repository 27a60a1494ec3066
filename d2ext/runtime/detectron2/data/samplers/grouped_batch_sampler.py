"""Batches of indices that belong to the same group."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import BatchSampler, Sampler

__all__ = ["GroupedBatchSampler"]


class GroupedBatchSampler(BatchSampler):
    """Batch sampler that collects indices by group and yields a batch when it is full.

    Args:
        sampler: yields indices in [0, N).
        group_ids: N group numbers, one per index.
        batch_size: indices per batch.
    """

    def __init__(self, sampler: Sampler, group_ids: Sequence[int], batch_size: int) -> None:
        if not isinstance(sampler, Sampler):
            raise ValueError(f"sampler must be a torch.utils.data.Sampler, got {sampler!r}")
        self.sampler = sampler
        self.group_ids = np.asarray(group_ids)
        if self.group_ids.ndim != 1:
            raise AssertionError(f"group_ids must be one number per index, got {group_ids!r}")
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[int]]:
        waiting: dict[int, list[int]] = defaultdict(list)
        for index in self.sampler:
            group = waiting[int(self.group_ids[index])]
            group.append(index)
            if len(group) == self.batch_size:
                yield group[:]
                group.clear()

    def __len__(self) -> int:
        raise NotImplementedError("The number of batches depends on the order of the indices.")
