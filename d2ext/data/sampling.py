"""Training samplers: the order of the images, as an endless stream of batches."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from torch.utils.data import Sampler

from d2ext.registry import ExtensionRegistry
from detectron2.config import CfgNode
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm


class Sample(NamedTuple):
    """One sample: its `number` in the run, over all processes, and its `position` in the data."""

    number: int
    position: int


class SampleStream(Sampler[list[Sample]]):
    """A batch sampler: the endless batches of one process.

    Args:
        sampler: endless indices of this process, a function of the seed alone.
        batch_size: samples in a batch.
        groups: the group of each position; a batch holds samples of one group, such as wide images.
            None: batches are cut as the samples come.
        start: number of batches to skip.
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


TrainingSamplerBuilder = Callable[[CfgNode, list[dict[str, Any]]], Sampler[int]]

_SAMPLERS: ExtensionRegistry[str, TrainingSamplerBuilder] = ExtensionRegistry("training sampler")


def register_sampler(name: str, builder: TrainingSamplerBuilder) -> None:
    """Register a training sampler under the name that `DATALOADER.SAMPLER_TRAIN` chooses it by.

    `builder(cfg, dicts)` is called with Detectron2's dicts of the training set, after filtering. It
    returns an endless sampler of this process's share of their positions. The order must depend on
    `cfg.SEED` alone: a resumed run replays it from the start.

    Raises:
        ValueError: the name is taken.
    """
    _SAMPLERS.register(name, builder)


def build_training_sampler(cfg: CfgNode, dicts: list[dict[str, Any]]) -> Sampler[int]:
    """Build the sampler named by `DATALOADER.SAMPLER_TRAIN`, seeded with `SEED`.

    Raises:
        ConfigError: there is no such sampler.
    """
    name = cfg.DATALOADER.SAMPLER_TRAIN
    return _SAMPLERS.get(name, "DATALOADER.SAMPLER_TRAIN")(cfg, dicts)


def _uniform(cfg: CfgNode, dicts: list[dict[str, Any]]) -> Sampler[int]:
    return TrainingSampler(len(dicts), seed=cfg.SEED)


def _repeat_factor(cfg: CfgNode, dicts: list[dict[str, Any]]) -> Sampler[int]:
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        dicts, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
    )
    return RepeatFactorTrainingSampler(factors, seed=cfg.SEED)


register_sampler("TrainingSampler", _uniform)
register_sampler("RepeatFactorTrainingSampler", _repeat_factor)
