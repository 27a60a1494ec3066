"""Which image comes when: an endless stream of samples, cut into batches."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from torch.utils.data import Sampler

from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm


class Sample(NamedTuple):
    """The `number`-th sample of a run, counted over all processes, is the image at `position`."""

    number: int
    position: int


class SampleStream(Sampler[list[Sample]]):
    """Endless batches of one process.

    Args:
        sampler: endless indices of this process, a function of the seed alone.
        batch_size: samples in a batch.
        groups: for each index, the group it belongs to; a batch has samples of one group. None:
            batches are cut as the samples come.
        start: batches to leave out.
    """

    def __init__(
        self,
        *,
        sampler: Sampler[int],
        batch_size: int,
        groups: Sequence[bool] | None,
        start: int = 0,
    ) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        self.groups, self.start = groups, start

    def __iter__(self) -> Iterator[list[Sample]]:
        # No image is loaded here, so passing over 100 000 batches takes seconds.
        return islice(self._batches(), self.start, None)

    def _batches(self) -> Iterator[list[Sample]]:
        rank, world = comm.get_rank(), comm.get_world_size()
        waiting: dict[bool, list[Sample]] = {}
        for count, index in enumerate(self.sampler):
            group = self.groups[index] if self.groups is not None else False
            batch = waiting.setdefault(group, [])
            batch.append(Sample(count * world + rank, index))
            if len(batch) == self.batch_size:
                yield waiting.pop(group)


def training_sampler(cfg: CfgNode, dicts: list[dict[str, Any]]) -> Sampler[int]:
    """The sampler named by `DATALOADER.SAMPLER_TRAIN`, seeded with `SEED`.

    Raises:
        ConfigError: there is no such sampler.
    """
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name not in _SAMPLERS:
        known = ", ".join(_SAMPLERS)
        raise ConfigError(f"DATALOADER.SAMPLER_TRAIN: {name!r} is unknown. Known: {known}.")
    return _SAMPLERS[name](cfg, dicts)


def _uniform(cfg: CfgNode, dicts: list[dict[str, Any]]) -> Sampler[int]:
    return TrainingSampler(len(dicts), seed=cfg.SEED)


def _repeat_factor(cfg: CfgNode, dicts: list[dict[str, Any]]) -> Sampler[int]:
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        dicts, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
    )
    return RepeatFactorTrainingSampler(factors, seed=cfg.SEED)


_SAMPLERS = {
    "TrainingSampler": _uniform,
    "RepeatFactorTrainingSampler": _repeat_factor,
}
