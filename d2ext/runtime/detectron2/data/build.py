"""Data loaders: datasets by name -> filtered dicts -> mapped samples -> batches."""

import itertools
import logging
import operator
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.utils.data as torchdata
from tabulate import tabulate
from termcolor import colored

from detectron2.config import CfgNode, configurable
from detectron2.structures import BoxMode
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import _log_api_usage, log_first_n

from .catalog import DatasetCatalog, MetadataCatalog
from .common import AspectRatioGroupedDataset, DatasetFromList, MapDataset, ToIterableDataset
from .dataset_mapper import DatasetMapper
from .detection_utils import check_metadata_consistency
from .samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)

__all__ = [
    "build_batch_data_loader",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "get_detection_dataset_dicts",
    "load_proposals_into_dataset",
    "print_instances_class_histogram",
]

logger = logging.getLogger(__name__)


def filter_images_with_only_crowd_annotations(dataset_dicts: list[dict]) -> list[dict]:
    """Filter out the images all of whose annotations are crowds."""
    kept = [
        image
        for image in dataset_dicts
        if any(annotation.get("iscrowd", 0) == 0 for annotation in image["annotations"])
    ]
    removed = len(dataset_dicts) - len(kept)
    logger.info("Removed %d images with no usable annotations. %d images left.", removed, len(kept))
    return kept


def filter_images_with_few_keypoints(
    dataset_dicts: list[dict], min_keypoints_per_image: int
) -> list[dict]:
    """Filter out the images with fewer visible keypoints, summed over their objects."""

    def visible(image: dict) -> int:
        labelled = (a["keypoints"] for a in image["annotations"] if "keypoints" in a)
        return sum(int((np.array(points[2::3]) > 0).sum()) for points in labelled)

    kept = [image for image in dataset_dicts if visible(image) >= min_keypoints_per_image]
    removed = len(dataset_dicts) - len(kept)
    logger.info("Removed %d images with fewer than %d keypoints.", removed, min_keypoints_per_image)
    return kept


class _ArraysOnly(pickle.Unpickler):
    """Unpickler of NumPy arrays: nothing else in a proposal file is executed."""

    def find_class(self, module: str, name: str) -> Any:
        # What pickled arrays refer to, before and since NumPy 2.
        allowed = ("_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer")
        if module.split(".")[0] == "numpy" and name in allowed:
            return super().find_class(module, name)
        if (module, name) == ("detectron2.structures.boxes", "BoxMode"):
            return BoxMode
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"A proposal file must hold arrays only, not {module}.{name}.")


def load_proposals_into_dataset(dataset_dicts: list[dict], proposal_file: str) -> list[dict]:
    """Add "proposal_boxes", "proposal_objectness_logits" and "proposal_bbox_mode" to the images.

    Args:
        dataset_dicts: changed in place and returned.
        proposal_file: a pickle of a dict: "ids" of images, "boxes" ((N, 4) arrays),
            "objectness_logits" ((N,) arrays), "bbox_mode" (XYXY pixels by default).
    """
    logger.info("Loading proposals from: %s", proposal_file)
    with PathManager.open(proposal_file, "rb") as file:
        proposals = _ArraysOnly(file, encoding="latin1").load()
    # Detectron1 wrote proposals under these names.
    old_names = {"indexes": "ids", "scores": "objectness_logits"}
    proposals = {old_names.get(key, key): value for key, value in proposals.items()}
    # Ids are numbers in some files and strings in others.
    place = {str(image_id): i for i, image_id in enumerate(proposals["ids"])}
    mode = BoxMode(proposals.get("bbox_mode", BoxMode.XYXY_ABS))
    for image in dataset_dicts:
        index = place.get(str(image["image_id"]))
        if index is None:
            continue
        logits = proposals["objectness_logits"][index]
        order = logits.argsort()[::-1]
        image["proposal_boxes"] = proposals["boxes"][index][order]
        image["proposal_objectness_logits"] = logits[order]
        image["proposal_bbox_mode"] = mode
    return dataset_dicts


def print_instances_class_histogram(dataset_dicts: list[dict], class_names: list[str]) -> None:
    """Log a histogram of the objects per class, without crowds."""
    counts = Counter(
        annotation["category_id"]
        for image in dataset_dicts
        for annotation in image["annotations"]
        if not annotation.get("iscrowd", 0)
    )
    unknown = [category for category in counts if not 0 <= category < len(class_names)]
    if unknown:
        raise AssertionError(
            f"Got an invalid category_id={unknown[0]} for a dataset of {len(class_names)} classes"
        )
    # Three columns of cut names fit on a terminal's line.
    rows = [(name[:13], counts[i]) for i, name in enumerate(class_names)]
    rows.append(("total", sum(counts.values())))
    table = _in_columns(rows, columns=min(3, len(rows) - 1) or 1)
    title = f"Distribution of instances among all {len(class_names)} categories:\n"
    log_first_n(logging.INFO, title + colored(table, "cyan"), key="message")


def _in_columns(rows: list[tuple[str, int]], columns: int) -> str:
    cells: list = list(itertools.chain.from_iterable(rows))
    cells += [None] * (-len(cells) % (2 * columns))
    lines = [cells[i : i + 2 * columns] for i in range(0, len(cells), 2 * columns)]
    return tabulate(
        lines,
        headers=["category", "#instances"] * columns,
        tablefmt="pipe",
        numalign="left",
        stralign="center",
    )


def get_detection_dataset_dicts(
    names: str | Sequence[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: Sequence[str] | None = None,
    check_consistency: bool = True,
) -> Any:
    """Load datasets by name and concatenate them.

    Args:
        names: one or several registered names.
        filter_empty: filter out images without objects, if the dataset has annotations.
        min_keypoints: filter out images with fewer visible keypoints; 0 for no limit.
        proposal_files: one per name; see `load_proposals_into_dataset`.
        check_consistency: check that all have the same classes, and log the objects per class.

    Returns:
        A list of dicts, or a torch `Dataset` if the names are registered as such.
    """
    names = [names] if isinstance(names, str) else names
    if not len(names):
        raise AssertionError("No dataset names: DATASETS.TRAIN or DATASETS.TEST is empty.")
    loaded = [DatasetCatalog.get(name) for name in names]
    if isinstance(loaded[0], torchdata.Dataset):
        return torchdata.ConcatDataset(loaded) if len(loaded) > 1 else loaded[0]
    for name, dicts in zip(names, loaded, strict=True):
        if not len(dicts):
            raise AssertionError(f"Dataset '{name}' is empty!")
    if proposal_files is not None:
        pairs = zip(loaded, proposal_files, strict=True)
        loaded = [load_proposals_into_dataset(dicts, file) for dicts, file in pairs]
    images = list(itertools.chain.from_iterable(loaded))
    if "annotations" in images[0]:
        images = _filter_and_check(images, names, filter_empty, min_keypoints, check_consistency)
    if not images:
        raise AssertionError(f"No valid data found in {','.join(names)}.")
    return images


def _filter_and_check(
    images: list[dict], names: Sequence[str], filter_empty: bool, min_keypoints: int, check: bool
) -> list[dict]:
    if filter_empty:
        images = filter_images_with_only_crowd_annotations(images)
    if min_keypoints > 0:
        images = filter_images_with_few_keypoints(images, min_keypoints)
    classes = MetadataCatalog.get(names[0]).get("thing_classes")
    if check and classes is not None:
        check_metadata_consistency("thing_classes", names)
        print_instances_class_histogram(images, classes)
    return images


def build_batch_data_loader(
    dataset: Any,
    sampler: torchdata.Sampler | None,
    total_batch_size: int | None,
    *,
    aspect_ratio_grouping: bool = False,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
    drop_last: bool = True,
    single_gpu_batch_size: int | None = None,
    prefetch_factor: int | None = 2,
    persistent_workers: bool = False,
    pin_memory: bool = False,
    seed: int | None = None,
    **kwargs: Any,
) -> Any:
    """Build a `DataLoader` whose batches are lists of samples, optionally grouped by aspect ratio.

    Args:
        dataset: map-style, or iterable.
        sampler: yields indices of a map-style dataset; None for an iterable one.
        total_batch_size: images per batch over all processes.
        aspect_ratio_grouping: batches of only wide or only tall images; needs "width" and "height"
            in the samples and `drop_last`.
        num_workers: worker processes.
        collate_fn: collates a list of samples to a batch; by default the list itself.
        drop_last: drop a batch that is not full.
        single_gpu_batch_size: images per batch in this process, in place of `total_batch_size`.
        seed: seed of the workers' random state.
        prefetch_factor, persistent_workers, pin_memory, kwargs: options of `DataLoader`.
    """
    batch_size = _batch_size_here(total_batch_size, single_gpu_batch_size)
    logger.info("Making batched data loader with batch_size=%d", batch_size)
    if not isinstance(dataset, torchdata.IterableDataset):
        # Chunks of a batch: each worker makes whole batches of consecutive indices.
        dataset = ToIterableDataset(dataset, sampler, shard_chunk_size=batch_size)  # type: ignore[arg-type]
    elif sampler is not None:
        raise AssertionError("sampler must be None if dataset is IterableDataset")
    options = {
        "num_workers": num_workers,
        "prefetch_factor": prefetch_factor if num_workers > 0 else None,
        "persistent_workers": persistent_workers,
        "pin_memory": pin_memory,
        "generator": None if seed is None else torch.Generator().manual_seed(seed),
        "worker_init_fn": worker_init_reset_seed,
        **kwargs,
    }
    if not aspect_ratio_grouping:
        collate = collate_fn or trivial_batch_collator
        return torchdata.DataLoader(
            dataset, batch_size=batch_size, drop_last=drop_last, collate_fn=collate, **options
        )
    if not drop_last:
        raise AssertionError("Aspect ratio grouping will drop incomplete batches.")
    # Workers send single samples; batches of one orientation are collected in this process.
    samples = torchdata.DataLoader(dataset, collate_fn=operator.itemgetter(0), **options)
    batches = AspectRatioGroupedDataset(samples, batch_size)
    return batches if collate_fn is None else MapDataset(batches, collate_fn)


def _batch_size_here(total: int | None, single: int | None) -> int:
    if single:
        if total:
            raise ValueError("total_batch_size and single_gpu_batch_size are mutually exclusive.")
        return single
    processes = comm.get_world_size()
    if not total or total < 0 or total % processes:
        raise AssertionError(
            f"Total batch size ({total}) must be divisible by the number of processes "
            f"({processes})."
        )
    return total // processes


def _train_loader_from_config(
    cfg: CfgNode, mapper: Any = None, *, dataset: Any = None, sampler: Any = None
) -> dict[str, Any]:
    if dataset is None:
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
            if cfg.MODEL.KEYPOINT_ON
            else 0,
            proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
        )
        _log_api_usage("dataset." + cfg.DATASETS.TRAIN[0])
    if sampler is None and not isinstance(dataset, torchdata.IterableDataset):
        sampler = _train_sampler(cfg, dataset)
    return {
        "dataset": dataset,
        "sampler": sampler,
        "mapper": DatasetMapper(cfg, True) if mapper is None else mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


def _train_sampler(cfg: CfgNode, dataset: Any) -> torchdata.Sampler:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    logger.info("Using training sampler %s", name)
    if name == "TrainingSampler":
        return TrainingSampler(len(dataset), seed=cfg.SEED)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
        )
        return RepeatFactorTrainingSampler(factors, seed=cfg.SEED)
    if name == "RandomSubsetTrainingSampler":
        return RandomSubsetTrainingSampler(len(dataset), cfg.DATALOADER.RANDOM_SUBSET_RATIO)
    raise ValueError(
        f"Unknown training sampler: {name}. DATALOADER.SAMPLER_TRAIN is one of TrainingSampler, "
        "RepeatFactorTrainingSampler, RandomSubsetTrainingSampler."
    )


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: Any,
    *,
    mapper: Callable[[dict], Any] | None,
    sampler: torchdata.Sampler | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Build an infinite loader of training batches; can also be called with `cfg`.

    Args:
        dataset: a list of dicts, or a torch dataset, map-style or iterable.
        mapper: maps a dict of the dataset to the model's input; by default, with a config,
            `DatasetMapper(cfg, True)`.
        sampler: yields indices of a map-style dataset; `TrainingSampler` by default.
        total_batch_size, aspect_ratio_grouping, num_workers, collate_fn, kwargs: see
            `build_batch_data_loader`.
    """
    dataset = _map_dataset(dataset, mapper, sampler)
    if not isinstance(dataset, torchdata.IterableDataset):
        sampler = TrainingSampler(len(dataset)) if sampler is None else sampler
        if not isinstance(sampler, torchdata.Sampler):
            raise AssertionError(f"Expect a Sampler but got {type(sampler)}")
    return build_batch_data_loader(
        dataset,
        sampler,
        total_batch_size,
        aspect_ratio_grouping=aspect_ratio_grouping,
        num_workers=num_workers,
        collate_fn=collate_fn,
        **kwargs,
    )


def _map_dataset(dataset: Any, mapper: Callable | None, sampler: Any) -> Any:
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    if mapper is not None:
        dataset = MapDataset(dataset, mapper)
    if isinstance(dataset, torchdata.IterableDataset) and sampler is not None:
        raise AssertionError("sampler must be None if dataset is IterableDataset")
    return dataset


def _test_loader_from_config(
    cfg: CfgNode, dataset_name: str | Sequence[str], mapper: Any = None
) -> dict[str, Any]:
    names = [dataset_name] if isinstance(dataset_name, str) else dataset_name
    proposal_files = None
    if cfg.MODEL.LOAD_PROPOSALS:
        file_of = dict(zip(cfg.DATASETS.TEST, cfg.DATASETS.PROPOSAL_FILES_TEST, strict=True))
        proposal_files = [file_of[name] for name in names]
    dataset = get_detection_dataset_dicts(names, filter_empty=False, proposal_files=proposal_files)
    iterable = isinstance(dataset, torchdata.IterableDataset)
    return {
        "dataset": dataset,
        "mapper": DatasetMapper(cfg, False) if mapper is None else mapper,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "sampler": None if iterable else InferenceSampler(len(dataset)),
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: Any,
    *,
    mapper: Callable[[dict[str, Any]], Any] | None,
    sampler: torchdata.Sampler | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
) -> torchdata.DataLoader:
    """Build a loader that reads every sample once; can also be called with `cfg, dataset_name`.

    Args:
        dataset, mapper: see `build_detection_train_loader`.
        sampler: yields indices of a map-style dataset; `InferenceSampler` by default.
        batch_size: images per batch in this process.
        num_workers: worker processes.
        collate_fn: collates a list of samples to a batch; by default the list itself.
    """
    dataset = _map_dataset(dataset, mapper, sampler)
    if sampler is None and not isinstance(dataset, torchdata.IterableDataset):
        sampler = InferenceSampler(len(dataset))
    return torchdata.DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=False,
        num_workers=num_workers,
        collate_fn=collate_fn or trivial_batch_collator,
    )


def trivial_batch_collator(batch: list) -> list:
    """Return the list of samples unchanged."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Seed the random, numpy and torch generators of a worker, each differently."""
    # `initial_seed` differs by worker and epoch; NumPy accepts 32 bits only.
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)
