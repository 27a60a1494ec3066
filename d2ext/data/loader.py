"""Data loaders that are deterministic per sample.

The n-th sample of a run, random augmentations included, depends on `SEED` and n alone. It does not
depend on the number of workers, on other code's random draws or on where a run was resumed.
"""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import ceil
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from d2ext.data.augmentation.slices import slice_dataset, slice_options
from d2ext.data.dataset_paths import register_specs
from d2ext.data.formats.dataset_split import Item
from d2ext.data.image_sizes import fill_in_sizes
from d2ext.data.learnable import check_learnable
from d2ext.data.mappers import build_mapper
from d2ext.data.mappers.registry import Mapper
from d2ext.data.mask_validity import BrokenMaskError
from d2ext.data.sampling import Sample, SampleStream, build_training_sampler
from d2ext.data.statistics import dataset_stats
from d2ext.errors import ConfigError, DataError
from d2ext.processes import shield_worker
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetFromList,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.utils import comm

_logger = logging.getLogger(__name__)


def build_train_loader(
    cfg: CfgNode, start_iteration: int = 0, *, mapper: Mapper | None = None
) -> DataLoader:
    """Build the endless training loader of this process's share of `SOLVER.IMS_PER_BATCH`.

    Args:
        cfg: reads DATASETS, DATALOADER, INPUT, SEED and SOLVER.IMS_PER_BATCH.
        start_iteration: number of batches to skip, as if they had been read.
        mapper: dict of an image -> what the model takes; by default that of `DATALOADER.MAPPER`.
    Returns:
        A loader of lists of Detectron2's dicts. Each pass over it starts at `start_iteration`.
    Raises:
        ConfigError: the batch does not divide among the processes, or the sampler is unknown.
        DataError: the data cannot be used.
        ValueError: `cfg.SEED` is negative.
    """
    if cfg.SEED < 0:
        raise ValueError(f"SEED must be set before data are loaded, got {cfg.SEED}")
    dicts = _train_dicts(cfg)
    _warn_of_missing_masks(cfg, dicts)
    wide = [item["width"] > item["height"] for item in dicts]
    stream = SampleStream(
        sampler=build_training_sampler(cfg, dicts),
        batch_size=_batch_per_process(cfg),
        groups=wide if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None,
        start=start_iteration,
    )
    items = DatasetFromList(dicts, copy=False)
    return DataLoader(
        SeededDataset(items, mapper or build_mapper(cfg, "train", items), cfg.SEED),
        batch_sampler=stream,
        **_loading(cfg),
    )


def build_test_loader(cfg: CfgNode, dataset_name: str) -> DataLoader:
    """Build Detectron2's test loader: every image once, batches of one, split over processes.

    It draws nothing from the global random state, so that evaluation does not change a training.
    """
    loader = build_detection_test_loader(cfg, dataset_name, mapper=build_mapper(cfg, "test"))
    loader.generator = torch.Generator()
    loader.worker_init_fn = shield_worker
    return loader


def iterations_per_epoch(cfg: CfgNode) -> int:
    """Return the number of batches per epoch, at `SOLVER.IMS_PER_BATCH` images per batch."""
    if cfg.INPUT.SLICE_SIZE:
        return max(1, ceil(len(_train_dicts(cfg)) / cfg.SOLVER.IMS_PER_BATCH))
    stats = dataset_stats(cfg.DATASETS.TRAIN)
    empty = stats.empty_images if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS else 0
    return max(1, ceil((stats.num_images - empty) / cfg.SOLVER.IMS_PER_BATCH))


class SeededDataset(Dataset):
    """A map-style data set that seeds the random generators for every sample.

    Args:
        items: Detectron2's dicts by position.
        mapper: called with a copy of a dict; may draw from any global generator.
        seed: of the run.
    """

    def __init__(self, items: DatasetFromList, mapper: Mapper, seed: int) -> None:
        self.items, self.mapper, self.seed = items, mapper, seed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, sample: Sample) -> Item:
        item = self.items[sample.position]
        with seeded(self.seed, sample.number):
            return self._mapped(item)

    def _mapped(self, item: Item) -> Item:
        try:
            return self.mapper(item)
        except (OSError, SizeMismatchError, BrokenMaskError) as error:
            raise DataError(
                f"{item['file_name']}: the image cannot be used: {error}. Replace it, or remove "
                "it from the annotations."
            ) from error


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generators; restore their states at the end."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(seed).generate_state(4, np.uint64).tolist()
    random.seed(words[0])
    np.random.seed(words[1] % 2**32)
    torch.default_generator.manual_seed(words[2] % 2**63)  # torch.manual_seed would reach CUDA too
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def _train_dicts(cfg: CfgNode) -> list[Item]:
    check_learnable(cfg)  # and that classes of the data sets agree
    keypoints = cfg.MODEL.KEYPOINT_ON
    proposals = cfg.MODEL.LOAD_PROPOSALS
    filter_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    dicts = get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN,
        filter_empty=filter_empty,
        min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if keypoints else 0,
        proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if proposals else None,
    )
    fill_in_sizes(dicts)
    size, overlap = slice_options(cfg.INPUT, "INPUT")
    return slice_dataset(dicts, size, overlap, filter_empty) if size else dicts


def _warn_of_missing_masks(cfg: CfgNode, dicts: list[Item]) -> None:
    """Log how many objects the mapper leaves out of a model of masks."""
    if cfg.MODEL.MASK_ON:
        objects = [o for item in dicts for o in item.get("annotations", ()) if not o.get("iscrowd")]
        if missing := sum(not o.get("segmentation") for o in objects):
            _logger.warning(
                "%s: %d of %d objects have a box but no mask, which this model does not learn "
                "from.",
                ", ".join(cfg.DATASETS.TRAIN),
                missing,
                len(objects),
            )


def _batch_per_process(cfg: CfgNode) -> int:
    batch, world = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if batch < world or batch % world:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {batch}, which does not divide among {world} processes: "
            f"set it to a multiple of {world}."
        )
    return batch // world


def _loading(cfg: CfgNode) -> dict[str, Any]:
    """Return the DataLoader options that do not depend on the data."""
    workers = cfg.DATALOADER.NUM_WORKERS
    return {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "collate_fn": _collate,
        "pin_memory": cfg.MODEL.DEVICE.startswith("cuda") and torch.cuda.is_available(),
        "worker_init_fn": partial(
            _prepare_worker, list(cfg.DATASETS.REGISTER), list(cfg.DATASETS.CLASSES)
        ),
        "generator": torch.Generator(),  # else starting workers draws from the global one
    }


def _collate(items: list[Item]) -> list[Item]:
    """Collate a batch as a list: models take images of any size and pad them themselves."""
    return items


def _prepare_worker(entries: list[Item], classes: list[str], worker: int) -> None:
    """Register the config's data sets in a worker: a spawned one starts with an empty catalog."""
    shield_worker()
    register_specs(entries, classes)
