"""Prepare a run: from the command's arguments to a checked config of plain values.

Whatever can be wrong with config, data, weights and folders is found here, before training starts.
"""

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch

import d2ext.modeling  # noqa: F401 # registers the models
from d2ext import __version__
from d2ext._detectron2 import provider
from d2ext.checkpoint import check_classes, last_checkpoint, local_file, read_metadata
from d2ext.config import load_config
from d2ext.data import DatasetStats, dataset_stats, register_datasets, write_dropped
from d2ext.data.catalog import (
    describe_datasets,
    read_dataset,
    reading_ahead,
    replace_datasets,
)
from d2ext.data.dataset_paths import named_spec
from d2ext.data.learnable import check_learnable
from d2ext.engine import pretrained
from d2ext.engine.align_classes import align_classes
from d2ext.engine.align_tasks import align_tasks
from d2ext.engine.auto import check_auto, inherit_auto, resolve_auto
from d2ext.engine.batch_probe import probe_memory
from d2ext.engine.check_before_training import check_before_training
from d2ext.engine.compatibility import (
    check_compatibility,
    check_training_data,
    measurable_metric,
)
from d2ext.engine.config_choice import (
    DEFAULT,
    NO_WEIGHTS,
    check_weights_name,
    load_run_config,
    saved_seed,
    typed_value,
)
from d2ext.engine.dataset_arguments import (
    check_resumed_classes,
    find_datasets,
    resumed_datasets,
)
from d2ext.engine.devices import choose_device, native_bfloat16
from d2ext.engine.launch import started_rank, world_size
from d2ext.engine.machine import Machine
from d2ext.engine.param_groups import read_rules
from d2ext.engine.recipe_choice import choose_recipe
from d2ext.engine.run_folder import check_output, claim_folder, newest_run, release_folder
from d2ext.engine.same_images import check_held_out_images, check_resumed_images, image_lists
from d2ext.engine.schedule import resolve_schedule
from d2ext.engine.value_checks import check_values
from d2ext.errors import ConfigError, NoImagesError, WeightsError
from d2ext.ops import EXTENSION_STATE
from d2ext.text import did_you_mean
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY


@dataclass
class RunSpec:
    """A run that is ready to start; picklable, so that every process gets the same.

    Args:
        cfg: plain values only; `cfg.AUTO` is empty.
        notes: lines for the head of the log.
        decided: what was `auto`, by key.
        images: of the data, for checkpoints; see `d2ext.engine.same_images`.
        programs: command lines of the tools that the log mentions, by tool.
    """

    cfg: CfgNode
    notes: list[str]
    decided: dict[str, Any]
    images: list[str] = field(default_factory=list)
    programs: dict[str, str] = field(default_factory=dict)


def prepare(args: argparse.Namespace) -> RunSpec:
    """Resolve and check everything that training or evaluation needs, and claim its folder.

    Raises:
        UserError: with one message that names the file or key and the remedy.
    """
    notes = [f"d2ext {__version__}, detectron2 {provider()}, torch {torch.__version__}"]
    weights, saved = read_saved(args)
    cfg, found = load_run_config(args, saved, weights)
    cfg.OUTPUT_DIR, said = output_folder(cfg, args, weights)
    notes += [EXTENSION_STATE, *found, *said]
    try:
        return _prepared(args, cfg, notes, weights, saved)
    except BaseException:
        release_folder(Path(cfg.OUTPUT_DIR))
        raise


@reading_ahead()
def _prepared(
    args: argparse.Namespace, cfg: CfgNode, notes: list[str], weights: str, saved: dict[str, Any]
) -> RunSpec:
    """Resolve a config that is loaded.

    `cfg` is written in this function alone: by the assignments below, and in place by
    `settle_datasets`, `choose_start`, `inherit_auto`, `resolve_auto` and `resolve_schedule`. All
    other steps return values.

    Args:
        saved: metadata of `weights`, which are resumed or evaluated.
    """
    check_values(cfg)
    check_auto(cfg)
    read_rules(cfg)
    if args.resume and "config" in saved:
        cfg.DATASETS, found = resumed_datasets(cfg, args, saved["config"])
        cfg.SEED = saved_seed(saved["config"]) if cfg.SEED < 0 else cfg.SEED
    else:
        cfg.DATASETS, found = find_datasets(cfg, args, saved.get("config", ""))
    notes += found
    replace_datasets(cfg.DATASETS.REGISTER)
    register_datasets(cfg)

    cfg.MODEL.DEVICE, device_note = choose_device(cfg.MODEL.DEVICE, args.num_gpus)
    notes += [device_note] if device_note else []
    if args.train and not (args.config_file or saved):
        notes += settle_datasets(cfg, args.eval_only)
        cfg, line = recipe_for_data(cfg, args)
        notes.append(line)
    check_names(cfg)  # of data sets, too, which are registered by now
    if not weights:  # downloaded before the data are read, in one process
        notes.insert(0, choose_start(cfg))
    if "config" in saved:
        inherit_auto(cfg, saved["config"])
        notes.append(f"values of {weights} hold for what was auto")

    notes += settle_datasets(cfg, args.eval_only)
    classes = saved.get("thing_classes") if args.eval_only else None
    cfg.DATASETS.CLASSES, aligned = align_classes(cfg, args.eval_only, classes)
    register_datasets(cfg)  # again only where classes were aligned; else it has no effect
    notes += aligned
    stats = read_stats(cfg, args.eval_only)  # in the aligned order of classes
    if args.resume and not args.eval_only:
        check_resumed_classes(saved.get("thing_classes"), stats.class_names)
    check_classes(classes, stats.class_names)
    if args.eval_only and "panoptic masks" in stats.annotated:
        check_classes(saved.get("stuff_classes"), stats.stuff_names)
    if args.resume and not args.eval_only:
        check_resumed_images(saved.get("images", []), cfg)
    elif args.eval_only and not (args.train or args.val or args.test):
        check_held_out_images(saved.get("images", []), cfg)
    notes += data_notes(cfg)
    notes += check_before_training(cfg) if not (args.eval_only or args.resume) else []
    check_compatibility(cfg, stats, args.eval_only)
    if not args.eval_only:
        check_learnable(cfg)

    decided = resolve_auto(cfg, stats, machine(cfg, args))
    if not args.eval_only:
        if typed_value(args.opts, "TEST.BEST_METRIC") is None:
            cfg.TEST.BEST_METRIC, metric_note = measurable_metric(cfg)
            notes += metric_note
        notes += [] if weights else pretrained.check_pixels(cfg)
        notes += check_training_data(cfg, stats)
        notes += resolve_schedule(cfg, args.opts[::2])  # `auto` values are plain numbers by now
    cfg.SEED = cfg.SEED if cfg.SEED >= 0 else int(torch.seed() % 2**31)
    return RunSpec(cfg, notes, decided, [] if args.eval_only else image_lists(cfg))


def read_saved(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Read what d2ext saved along with the weights that are resumed or evaluated.

    Returns:
        Their path, "" for a new training, and "config", YAML text, and "thing_classes", a list,
        as far as the file has them.
    Raises:
        WeightsError: the file is missing, unreadable, or cannot be downloaded.
        ConfigError: there is nothing to resume, and no data or config to start with.
    """
    if args.eval_only:
        weights = typed_value(args.opts, "MODEL.WEIGHTS") or _of_file(args, "MODEL", "WEIGHTS")
        if not weights:
            raise WeightsError(NO_WEIGHTS)
        check_weights_name(weights)
        return weights, read_metadata(weights)
    if not args.resume:
        return "", {}
    folder = resumed_folder(args)
    weights = last_checkpoint(folder)
    if not weights and not (args.train or args.config_file):
        raise ConfigError(f"--resume: there is no checkpoint in {folder}; --output names another.")
    return weights, read_metadata(weights) if weights else {}


def resumed_folder(args: argparse.Namespace) -> Path:
    """Return the folder that `--resume` goes on in: the one named, or the newest run's."""
    typed = typed_value(args.opts, "OUTPUT_DIR")
    return Path(typed) if typed else newest_run(Path(_of_file(args, "OUTPUT_DIR")))


def recipe_for_data(cfg: CfgNode, args: argparse.Namespace) -> tuple[CfgNode, str]:
    """Load the recipe that fits the data and the device, for a training that names no config.

    Args:
        cfg: the default config, its data sets registered and its device chosen; not changed.
    Returns:
        The config of the recipe with data, device and folder of `cfg`, and a line for the log.
    """
    device = cfg.MODEL.DEVICE.partition(":")[0]
    path, line = choose_recipe(dataset_stats(cfg.DATASETS.TRAIN), device)
    recipe = load_config(path, args.opts)
    check_values(recipe)
    check_auto(recipe)
    read_rules(recipe)
    recipe.DATASETS, recipe.OUTPUT_DIR = cfg.DATASETS, cfg.OUTPUT_DIR
    recipe.MODEL.DEVICE = cfg.MODEL.DEVICE
    return recipe, line


def choose_start(cfg: CfgNode) -> str:
    """Choose the weights of a new training where MODEL.WEIGHTS is `auto`, in place; fetch them.

    Returns:
        A line for the head of the log: what the run starts from, and what that means.
    Raises:
        WeightsError: weights that the config names cannot be had.
    """
    if pretrained.KEY in cfg.AUTO:
        chosen = pretrained.choose_weights(cfg, download=True)
        cfg.MODEL.WEIGHTS = chosen.value
        cfg.AUTO.remove(pretrained.KEY)
        return f"weights: {chosen}" if chosen.value else f"weights: {chosen.reason}"
    if cfg.MODEL.WEIGHTS:
        check_weights_name(cfg.MODEL.WEIGHTS)
        local_file(cfg.MODEL.WEIGHTS)
    return f"weights: {cfg.MODEL.WEIGHTS or 'random'}"


def output_folder(cfg: CfgNode, args: argparse.Namespace, weights: str) -> tuple[str, list[str]]:
    """Choose and create the folder of the run; one that holds another run gets a numbered sibling.

    An evaluation has a subfolder of the training's, unless a folder is named.

    Returns:
        The folder, and a line for the log if it is another than OUTPUT_DIR.
    Raises:
        OutputError: files cannot be written there.
    """
    wanted = Path(cfg.OUTPUT_DIR)
    if args.eval_only and typed_value(args.opts, "OUTPUT_DIR") is None:
        wanted /= "eval"
    if args.resume and not args.eval_only:
        wanted = Path(weights).parent if weights else resumed_folder(args)
    rank = started_rank(os.environ)
    if rank is not None and rank.rank > 0:
        return str(wanted), []  # `run` takes the folder of the first process
    if args.overwrite or (args.resume and not args.eval_only):
        check_output(wanted)
        if args.overwrite:
            rmtree(wanted / "data_faults", ignore_errors=True)  # of the old run's data
        return str(wanted), []
    folder = claim_folder(wanted)
    if folder == wanted:
        return str(wanted), []
    return str(folder), [f"{wanted} holds another run: this one is in {folder}"]


def check_names(cfg: CfgNode) -> None:
    """Check the names of architecture, backbone and data sets.

    Raises:
        ConfigError: nothing is registered under one of them.
    """
    architectures = [name for name, _ in META_ARCH_REGISTRY]
    _check_name("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, architectures)
    backbones = [name for name, _ in BACKBONE_REGISTRY]
    _check_name("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, backbones)
    for key in ("TRAIN", "TEST", "FINAL"):
        for name in cfg.DATASETS[key]:
            _check_name(f"DATASETS.{key}", name, DatasetCatalog.list())


def settle_datasets(cfg: CfgNode, eval_only: bool) -> list[str]:
    """Drop empty data sets of a training and align the tasks of all, in place and registered.

    Doing it again changes nothing.

    Returns:
        Lines for the log.
    """
    notes = [] if eval_only else drop_empty_splits(cfg.DATASETS)
    cfg.DATASETS.REGISTER = align_tasks(cfg, eval_only)
    register_datasets(cfg)
    return notes


def drop_empty_splits(datasets: CfgNode) -> list[str]:
    """Drop data sets without any image from those that evaluate, in place.

    Returns:
        Lines for the log.
    """
    specs = dict(named_spec(entry) for entry in datasets.REGISTER)
    notes = []
    for key in ("TEST", "FINAL"):
        for name in [name for name in datasets[key] if name in specs]:
            try:
                read_dataset(specs[name])
            except NoImagesError as error:
                datasets[key] = tuple(other for other in datasets[key] if other != name)
                notes.append(f"AP cannot be measured on {name}: {error}")
    return notes


def read_stats(cfg: CfgNode, eval_only: bool) -> DatasetStats:
    """Return the statistics of the training data, or of the test data where nothing is trained.

    Raises:
        ConfigError: there are no test data to evaluate on.
        DataError: a data set cannot be read.
    """
    if not eval_only:
        return dataset_stats(cfg.DATASETS.TRAIN)
    if not cfg.DATASETS.TEST:
        raise ConfigError("--eval-only needs data: --val PATH names them.")
    return dataset_stats(cfg.DATASETS.TEST)


def data_notes(cfg: CfgNode) -> list[str]:
    """Describe the data sets for the log, and write what was dropped from them to OUTPUT_DIR."""
    lines = describe_datasets((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, *cfg.DATASETS.FINAL))
    rank = started_rank(os.environ)
    if rank is not None and rank.rank > 0:
        return lines
    return lines + [f"what was dropped: {path}" for path in write_dropped(cfg.OUTPUT_DIR)]


def machine(cfg: CfgNode, args: argparse.Namespace) -> Machine:
    """Describe the hardware of the run, for rules of `auto` values."""
    device = cfg.MODEL.DEVICE.partition(":")[0]
    return Machine(
        device=device,
        processes=world_size(args),
        cores=(os.cpu_count() or 1) // max(1, args.num_gpus),
        bfloat16=native_bfloat16(device),
        probe=probe_memory if device == "cuda" and not args.eval_only else None,
    )


def _of_file(args: argparse.Namespace, *keys: str) -> str:
    """Return a value of the config that the command names, or of the default."""
    node: Any = load_config(args.config_file or DEFAULT, args.opts)
    for key in keys:
        node = node[key]
    return node


def _check_name(key: str, name: str, known: Iterable[str]) -> None:
    known = sorted(known)
    if name in known:
        return
    hint = did_you_mean(name, known)
    raise ConfigError(f"{key}: {name!r} is unknown{hint} Known: {', '.join(known)}.")
