"""Benchmark of a data loader: reading, mapping, and passing results between processes."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from fvcore.common.timer import Timer
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from detectron2.utils import comm

from .build import build_batch_data_loader
from .common import DatasetFromList, MapDataset
from .samplers import TrainingSampler

__all__ = ["DataLoaderBenchmark", "iter_benchmark"]

logger = logging.getLogger(__name__)


class _EmptyMapDataset(Dataset):
    """A dataset that reads the elements of another one and returns empty results."""

    def __init__(self, dataset: Any) -> None:
        self.ds = dataset

    def __len__(self) -> int:
        return len(self.ds)

    def __getitem__(self, idx: int) -> list[int]:
        self.ds[idx]
        return [0]


def iter_benchmark(
    iterator: Iterable, num_iter: int, warmup: int = 5, max_time_seconds: float = 60
) -> tuple[float, list[float]]:
    """Time the steps of an iterator.

    Args:
        iterator: yields at least `num_iter` + `warmup` elements.
        num_iter: steps to time.
        warmup: untimed steps before.
        max_time_seconds: time limit, after which timing stops early.

    Returns:
        Mean seconds per step, and the seconds of each step.
    """
    steps: Iterator = iter(iterator)
    for _ in islice(steps, warmup):
        pass
    times: list[float] = []
    timer = Timer()
    for _ in tqdm(range(num_iter)):
        start = time.perf_counter()
        next(steps)
        times.append(time.perf_counter() - start)
        if timer.seconds() > max_time_seconds:
            break
    return timer.seconds() / len(times), times


class DataLoaderBenchmark:
    """Benchmark of the parts of a training loader; logs their speed.

    Args:
        dataset, mapper, sampler, total_batch_size, num_workers: see
            `build_detection_train_loader`.
        max_time_seconds: time limit of each benchmark.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        mapper: Callable[[dict], Any],
        sampler: Sampler | None = None,
        total_batch_size: int,
        num_workers: int = 0,
        max_time_seconds: int = 90,
    ) -> None:
        if isinstance(dataset, list):
            dataset = DatasetFromList(dataset, copy=False, serialize=True)
        self.dataset = dataset
        self.mapper = mapper
        self.sampler = TrainingSampler(len(dataset)) if sampler is None else sampler
        self.total_batch_size = total_batch_size
        self.num_workers = num_workers
        self.per_gpu_batch_size = total_batch_size // comm.get_world_size()
        self.max_time_seconds = max_time_seconds

    def _benchmark(
        self, iterator: Iterable, num_iter: int, warmup: int, msg: str | None = None
    ) -> tuple[float, list[float]]:
        avg, all_times = iter_benchmark(iterator, num_iter, warmup, self.max_time_seconds)
        if msg is not None:
            self._log_time(msg, avg, all_times)
        return avg, all_times

    def _log_time(
        self, msg: str, avg: float, all_times: list[float], distributed: bool = False
    ) -> None:
        gathered = comm.all_gather((avg, all_times)) if distributed else [(avg, all_times)]
        for rank, (mean, times) in enumerate(gathered):
            first, *quantiles = [times[0], *np.percentile(times, [1, 5, 95, 99]).tolist()]
            where = f"rank {rank}, " if distributed else ""
            spread = ", ".join(f"{seconds:.4f}" for seconds in quantiles)
            logger.info(
                f"{msg}: {where}avg={1 / mean:.2f} it/s, first={first:.4f}s, "
                f"p1, p5, p95, p99={spread}s"
            )

    def _mapped(self) -> MapDataset:
        return MapDataset(self.dataset, self.mapper)

    def _loader(self, dataset: Any, num_workers: int) -> Any:
        return build_batch_data_loader(
            dataset, self.sampler, self.total_batch_size, num_workers=num_workers
        )

    def benchmark_dataset(self, num_iter: int, warmup: int = 5) -> None:
        """Benchmark reading samples from the dataset."""
        samples = (self.dataset[index] for index in self.sampler)
        self._benchmark(samples, num_iter, warmup, "Dataset Alone")

    def benchmark_mapper(self, num_iter: int, warmup: int = 5) -> None:
        """Benchmark reading and mapping samples in this process."""
        dataset = self._mapped()
        samples = (dataset[index] for index in self.sampler)
        self._benchmark(samples, num_iter, warmup, "Single Process Mapper (sec/sample)")

    def benchmark_workers(self, num_iter: int, warmup: int = 10) -> None:
        """Benchmark batches with zero, one and all of the workers."""
        for workers in dict.fromkeys((0, 1, self.num_workers)):
            loader = self._loader(self._mapped(), workers)
            message = f"DataLoader ({workers} workers, bs={self.per_gpu_batch_size})"
            self._benchmark(iter(loader), num_iter * max(workers, 1), warmup, message)

    def benchmark_IPC(self, num_iter: int, warmup: int = 10) -> None:
        """Benchmark batches whose samples stay in the workers: no interprocess transfer."""
        loader = self._loader(_EmptyMapDataset(self._mapped()), self.num_workers)
        message = f"DataLoader ({self.num_workers} workers, without passing results)"
        self._benchmark(iter(loader), num_iter * max(self.num_workers, 1), warmup, message)

    def benchmark_distributed(self, num_iter: int, warmup: int = 10) -> None:
        """Benchmark all processes at once, and log the times of each."""
        loader = iter(self._loader(self._mapped(), self.num_workers))
        startup = Timer()
        next(loader)
        seconds = startup.seconds()
        self._log_time("DataLoader startup time", seconds, [seconds], distributed=True)
        comm.synchronize()
        avg, all_times = self._benchmark(loader, num_iter, warmup)
        message = f"DataLoader ({self.num_workers} workers, bs={self.per_gpu_batch_size})"
        self._log_time(message, avg, all_times, distributed=True)
