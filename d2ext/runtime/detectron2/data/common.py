"""Dataset wrappers: mapping, compact storage, sampling, grouping by aspect ratio."""

import contextlib
import copy
import itertools
import logging
import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

from detectron2.utils.serialize import PicklableWrapper

__all__ = ["AspectRatioGroupedDataset", "DatasetFromList", "MapDataset", "ToIterableDataset"]

logger = logging.getLogger(__name__)

_MAP_RETRIES_BEFORE_WARNING = 3


class _MapIterableDataset(IterableDataset):
    """An iterable dataset of `map_func` applied to another; results that are None are skipped."""

    def __init__(self, dataset: Iterable, map_func: Callable[[Any], Any]) -> None:
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return (x for x in map(self._map_func, self._dataset) if x is not None)


class MapDataset(Dataset):
    """A dataset of a function applied to the elements of another dataset.

    If the function returns None, an iterable dataset continues with the next element, a map-style
    one with another element chosen at random.

    Args:
        dataset: map-style or iterable; the result is of the same kind.
        map_func: maps an element to an element or None.
    """

    def __new__(cls, dataset: Any, map_func: Callable[[Any], Any]) -> Any:
        if isinstance(dataset, IterableDataset):
            return _MapIterableDataset(dataset, map_func)
        return super().__new__(cls)

    def __getnewargs__(self) -> tuple[Any, Callable[[Any], Any]]:
        return self._dataset, self._map_func

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]) -> None:
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)
        # A generator of its own: replacing samples must not change the random augmentations.
        self._rng = random.Random(42)
        self._unusable: set[int] = set()

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: int) -> Any:
        current = int(idx)
        for attempt in itertools.count(1):
            data = self._map_func(self._dataset[current])
            if data is not None:
                self._unusable.discard(current)
                return data
            self._unusable.add(current)
            if attempt >= _MAP_RETRIES_BEFORE_WARNING:
                logger.warning("No data for index %s after %s attempts.", idx, attempt)
            current = self._another()
        return None

    def _another(self) -> int:
        usable = [i for i in range(len(self)) if i not in self._unusable]
        if not usable:
            raise ValueError("The mapping function returns None for every element of the dataset.")
        return self._rng.choice(usable)


class _SerializedList:
    """Pickled elements end to end in one tensor, which worker processes share with the parent.

    A list of Python objects would be copied into each worker as their reference counts change.
    """

    def __init__(self, lst: list) -> None:
        # Element by element, so that reading one unpickles only that one.
        pickled = [np.frombuffer(pickle.dumps(item, protocol=-1), dtype=np.uint8) for item in lst]
        logger.info("Serializing %d elements to byte tensors ...", len(lst))
        ends = np.cumsum([len(item) for item in pickled], dtype=np.int64)
        self._ends = torch.from_numpy(ends)
        self._bytes = torch.from_numpy(np.concatenate(pickled) if pickled else np.empty(0, "u1"))
        logger.info("Serialized dataset takes %.2f MiB", len(self._bytes) / 1024**2)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Any:
        start = self._ends[index - 1].item() if index else 0
        return pickle.loads(self._bytes[start : self._ends[index].item()].numpy().data)


_serialize_by_default: Callable[[list], Any] = _SerializedList


@contextlib.contextmanager
def set_default_dataset_from_list_serialize_method(new: Callable[[list], Any]) -> Iterator[None]:
    """Make `DatasetFromList` store lists by `new` within the context."""
    global _serialize_by_default
    before, _serialize_by_default = _serialize_by_default, new
    try:
        yield
    finally:
        _serialize_by_default = before


class DatasetFromList(Dataset):
    """A map-style dataset over a list.

    Args:
        lst: the elements.
        copy: return deep copies, which callers may change.
        serialize: True to store the elements pickled in memory that workers share; a function from
            the list to a sequence for another kind of storage; False to keep the list.
    """

    def __init__(
        self, lst: list, copy: bool = True, serialize: bool | Callable[[list], Any] = True
    ) -> None:
        self._copy = copy
        self._lst: Any = lst
        if serialize:
            self._lst = serialize(lst) if callable(serialize) else _serialize_by_default(lst)
        self._stored_elsewhere = bool(serialize)

    def __len__(self) -> int:
        return len(self._lst)

    def __getitem__(self, idx: int) -> Any:
        item = self._lst[idx]
        # Unpickling gives a new object anyway.
        return copy.deepcopy(item) if self._copy and not self._stored_elsewhere else item


class ToIterableDataset(IterableDataset):
    """An iterable dataset that reads a map-style one in the order of a sampler.

    Args:
        dataset: map-style.
        sampler: yields indices; runs in every worker process of a loader.
        shard_sampler: shard the indices over the workers; False if the sampler does so.
        shard_chunk_size: consecutive indices per worker.
    """

    def __init__(
        self,
        dataset: Dataset,
        sampler: Sampler,
        shard_sampler: bool = True,
        shard_chunk_size: int = 1,
    ) -> None:
        if isinstance(dataset, IterableDataset):
            raise AssertionError(f"{dataset} is iterable already")
        if not isinstance(sampler, Sampler):
            raise AssertionError(f"not a sampler: {sampler}")
        self.dataset = dataset
        self.sampler = sampler
        self.shard_sampler = shard_sampler
        self.shard_chunk_size = shard_chunk_size

    def __iter__(self) -> Iterator[Any]:
        indices = iter(self.sampler)
        if self.shard_sampler:
            indices = _of_this_worker(indices, self.shard_chunk_size)
        return (self.dataset[index] for index in indices)

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]


def _of_this_worker(indices: Iterable[int], chunk_size: int) -> Iterator[int]:
    """Yield every n-th chunk in each of n workers; all indices outside of a loader's worker."""
    worker = get_worker_info()
    if worker is None:
        yield from indices
        return
    for position, index in enumerate(indices):
        if position // chunk_size % worker.num_workers == worker.id:
            yield index


class AspectRatioGroupedDataset(IterableDataset):
    """Batches of only wide or only tall images, which need less padding.

    Args:
        dataset: iterable of dicts with "width" and "height".
        batch_size: elements per batch.
    """

    def __init__(self, dataset: Iterable[dict], batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        # Tall and wide images of incomplete batches, kept between iterations.
        self._buckets: list[list[dict]] = [[], []]

    def __iter__(self) -> Iterator[list[dict]]:
        for sample in self.dataset:
            wide = sample["width"] > sample["height"]
            self._buckets[wide].append(sample)
            if len(self._buckets[wide]) == self.batch_size:
                batch, self._buckets[wide] = self._buckets[wide], []
                yield batch
