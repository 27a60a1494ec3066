"""Distributed samplers: infinite shuffled streams for training, one pass for inference.

A training stream is the same in all processes, and each takes every n-th index of it.
`ToIterableDataset` shards further over the worker processes of a loader.
"""

import itertools
import logging
import math
from collections import Counter
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from detectron2.utils import comm

__all__ = [
    "InferenceSampler",
    "RandomSubsetTrainingSampler",
    "RepeatFactorTrainingSampler",
    "TrainingSampler",
]

logger = logging.getLogger(__name__)


class _EndlessShard:
    """Methods of the samplers: the shard of this process of an infinite stream of indices.

    It has no constructor: `super(TrainingSampler, self).__init__()` of packages is that of
    PyTorch's `Sampler`.
    """

    def _set_up(self, shuffle: bool, seed: int | None) -> None:
        self._shuffle = shuffle
        self._seed = int(comm.shared_random_seed() if seed is None else seed)
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        yield from itertools.islice(self._infinite_indices(), self._rank, None, self._world_size)

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            indices = self._get_epoch_indices(generator)
            if self._shuffle:
                # All processes draw the same permutation, so that their shards do not overlap.
                indices = indices[torch.randperm(len(indices), generator=generator)]
            yield from indices.tolist()

    def _get_epoch_indices(self, generator: torch.Generator) -> torch.Tensor:
        """Return (N,) the indices of one epoch, in order."""
        raise NotImplementedError


class TrainingSampler(_EndlessShard, Sampler):
    """Infinite sampler: all indices in [0, size) per epoch, shuffled anew each time.

    Args:
        size: number of samples.
        shuffle: False for ascending order.
        seed: shuffling seed, the same in all processes; by default a shared random one.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        if not isinstance(size, int):
            raise TypeError(f"TrainingSampler(size=) expects an int, got {type(size)}.")
        if size <= 0:
            raise ValueError(f"TrainingSampler(size=) expects a positive int, got {size}.")
        super().__init__()
        self._set_up(shuffle, seed)
        self._size = size

    def _get_epoch_indices(self, generator: torch.Generator) -> torch.Tensor:
        return torch.arange(self._size)


class RandomSubsetTrainingSampler(TrainingSampler):
    """A `TrainingSampler` over a fixed random subset of the samples.

    Args:
        size: number of samples.
        subset_ratio: size of the subset as a fraction of the samples.
        shuffle: False for the order in which the subset was drawn.
        seed_shuffle: see `TrainingSampler.seed`.
        seed_subset: seed of the subset, the same in all processes.
    """

    def __init__(
        self,
        size: int,
        subset_ratio: float,
        shuffle: bool = True,
        seed_shuffle: int | None = None,
        seed_subset: int | None = None,
    ) -> None:
        super().__init__(size=size, shuffle=shuffle, seed=seed_shuffle)
        if not 0.0 < subset_ratio <= 1.0:
            raise AssertionError(f"subset_ratio must be in (0, 1], got {subset_ratio}")
        self._size_subset = int(size * subset_ratio)
        if self._size_subset == 0:
            raise AssertionError(f"a share of {subset_ratio} of {size} samples is none")
        seed_subset = comm.shared_random_seed() if seed_subset is None else seed_subset
        generator = torch.Generator().manual_seed(int(seed_subset))
        self._indexes_subset = torch.randperm(size, generator=generator)[: self._size_subset]
        logger.info("Using %d of %d samples, a share of %s", self._size_subset, size, subset_ratio)

    def _get_epoch_indices(self, generator: torch.Generator) -> torch.Tensor:
        return self._indexes_subset


class RepeatFactorTrainingSampler(_EndlessShard, Sampler):
    """Infinite sampler that repeats samples by their factors, to oversample rare classes.

    A fractional factor is rounded up or down at random in each epoch.

    Args:
        repeat_factors: (N,) floats.
        shuffle: False for ascending order.
        seed: see `TrainingSampler`.
    """

    def __init__(
        self, repeat_factors: torch.Tensor, *, shuffle: bool = True, seed: int | None = None
    ) -> None:
        super().__init__()
        self._set_up(shuffle, seed)
        self._int_part = torch.trunc(repeat_factors)
        self._frac_part = repeat_factors - self._int_part

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: list[dict], repeat_thresh: float, sqrt: bool = True
    ) -> torch.Tensor:
        """Compute (N,) repeat factors from the frequency of the rarest category in each image.

        The factor is max(1, threshold / frequency), or the square root of that. The frequency of a
        category is the fraction of images that show it.
        Source: Gupta et al. 2019, "LVIS", arXiv:1908.03195, appendix B.2.

        Args:
            dataset_dicts: dataset in Detectron2's format.
            repeat_thresh: frequency from which on images are not repeated.
            sqrt: take the square root.
        """
        shown = [{a["category_id"] for a in image["annotations"]} for image in dataset_dicts]
        images_with = Counter(itertools.chain.from_iterable(shown))
        ratios = {c: repeat_thresh * len(shown) / n for c, n in images_with.items()}
        factors = {c: max(1.0, math.sqrt(r) if sqrt else r) for c, r in ratios.items()}
        for category in sorted(factors):
            frequency = images_with[category] / len(shown)
            logger.debug("category %s: %f, %f", category, frequency, factors[category])
        per_image = [max((factors[c] for c in categories), default=1.0) for categories in shown]
        return torch.tensor(per_image, dtype=torch.float32)

    def _get_epoch_indices(self, generator: torch.Generator) -> torch.Tensor:
        rounded_up = torch.rand(len(self._frac_part), generator=generator) < self._frac_part
        repeats = (self._int_part + rounded_up).long()
        return torch.arange(len(repeats)).repeat_interleave(repeats)


class InferenceSampler(Sampler):
    """Sampler of each sample once: every process gets a range of consecutive indices.

    The first processes get one more if the samples do not divide evenly.
    """

    def __init__(self, size: int) -> None:
        if size <= 0:
            raise AssertionError(f"InferenceSampler(size=) expects a positive int, got {size}.")
        self._size = size
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()
        self._local_indices = self._get_local_indices(size, self._world_size, self._rank)

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        # No padding: an evaluation must not see a sample twice.
        share, remainder = divmod(total_size, world_size)
        begin = rank * share + min(rank, remainder)
        return range(begin, begin + share + (rank < remainder))

    def __iter__(self) -> Iterator[int]:
        yield from self._local_indices

    def __len__(self) -> int:
        return len(self._local_indices)
