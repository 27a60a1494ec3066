"""Prepare a run: from the command's arguments to a checked config of plain values.

Whatever can be wrong with config, data, weights and folders is found here, before training starts.
"""

import argparse
import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch

import d2ext.modeling  # noqa: F401 # registers the models
from d2ext import __version__
from d2ext._detectron2 import provider
from d2ext.checkpoint import check_classes, last_checkpoint, local_file, read_metadata
from d2ext.config import load_config
from d2ext.config.load import find_config
from d2ext.config.plain_yaml import parse_yaml
from d2ext.data import DatasetStats, dataset_stats, register_datasets, write_dropped
from d2ext.data.catalog import describe_datasets, reading_ahead
from d2ext.engine import pretrained
from d2ext.engine.align_classes import align_classes
from d2ext.engine.auto import Machine, check_auto, describe, inherit_auto, resolve_auto
from d2ext.engine.check_before_training import check_before_training
from d2ext.engine.compatibility import check_compatibility, check_training_data
from d2ext.engine.dataset_arguments import find_datasets
from d2ext.engine.devices import choose_device, native_bfloat16
from d2ext.engine.launch import world_size
from d2ext.engine.param_groups import read_rules
from d2ext.engine.schedule import resolve_schedule
from d2ext.errors import ConfigError, OutputError, WeightsError
from d2ext.ops import EXTENSION_STATE
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY


@dataclass
class RunSpec:
    """A run that is ready to start; picklable, so that every process gets the same.

    Args:
        cfg: plain values only; `cfg.AUTO` is empty.
        notes: lines for the head of the log.
        config_file: the file that was read, found among the shipped ones if it is one of them.
    """

    cfg: CfgNode
    notes: list[str]
    config_file: str


@reading_ahead()
def prepare(args: argparse.Namespace) -> RunSpec:
    """Resolve and check everything that training or evaluation needs.

    `cfg` is written in this function alone: by the assignments below, and in place by
    `choose_start`, `inherit_auto`, `resolve_auto` and `resolve_schedule`. All other steps return
    values.

    Raises:
        UserError: with one message that names the file or key and the remedy.
    """
    config_file = find_config(args.config_file)
    cfg = read_config(config_file, args.opts)
    notes = [f"d2ext {__version__}, detectron2 {provider()}, torch {torch.__version__}"]
    cfg.DATASETS, found = find_datasets(cfg, args)
    register_datasets(cfg)
    notes += [EXTENSION_STATE, *found]

    cfg.MODEL.DEVICE, device_note = choose_device(cfg.MODEL.DEVICE, args.num_gpus)
    notes += [device_note] if device_note else []
    cfg.OUTPUT_DIR = output_folder(cfg, args)
    check_names(cfg)  # of data sets, too, which are registered by now
    check_output(Path(cfg.OUTPUT_DIR))

    notes.insert(0, choose_start(cfg, args))
    saved = read_saved(cfg, args)  # before the data are read, which takes longer
    if "config" in saved:
        cfg.SEED = saved_seed(saved["config"]) if args.resume and cfg.SEED < 0 else cfg.SEED
        inherit_auto(cfg, saved["config"])
        notes.append(f"auto values: as in {weights_to_inherit(cfg, args)}")

    classes = saved.get("thing_classes") if args.eval_only else None
    cfg.DATASETS.CLASSES, aligned = align_classes(cfg, args.eval_only, classes)
    register_datasets(cfg)  # again only where classes were aligned; else it has no effect
    notes += aligned
    stats = read_stats(cfg, args.eval_only)  # in the aligned order of classes
    check_classes(classes, stats.class_names)
    notes += data_notes(cfg)
    notes += check_before_training(cfg) if not (args.eval_only or args.resume) else []
    check_compatibility(cfg, stats)

    decided = resolve_auto(cfg, stats, machine(cfg, args))
    names = cfg.DATASETS.TEST if args.eval_only else cfg.DATASETS.TRAIN
    notes += [describe(decided, names)] if decided else []
    if not args.eval_only:
        notes += [] if args.resume else pretrained.check_pixels(cfg)
        notes += check_training_data(cfg, stats)
        notes += resolve_schedule(cfg)  # epochs and batch size are plain numbers by now
    cfg.SEED = cfg.SEED if cfg.SEED >= 0 else int(torch.seed() % 2**31)
    return RunSpec(cfg, notes, str(config_file))


def read_config(path: Path, overrides: list[str]) -> CfgNode:
    """Load a config and check what can be checked without data or model.

    Raises:
        ConfigError: a key is unknown, of the wrong type, or `auto` without a rule.
    """
    cfg = load_config(path, overrides)
    check_auto(cfg)
    read_rules(cfg)
    return cfg


def output_folder(cfg: CfgNode, args: argparse.Namespace) -> str:
    """Return OUTPUT_DIR, or its subfolder for an evaluation, which leaves the training's files."""
    if args.eval_only and "OUTPUT_DIR" not in args.opts:
        return str(Path(cfg.OUTPUT_DIR, "eval"))
    return cfg.OUTPUT_DIR


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


def check_output(folder: Path) -> None:
    """Create the output folder and check that files can be written to it.

    Raises:
        OutputError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written to ({error.strerror}); OUTPUT_DIR FOLDER names another."
        ) from error


def choose_start(cfg: CfgNode, args: argparse.Namespace) -> str:
    """Choose the weights of a new training where MODEL.WEIGHTS is `auto`, in place.

    Returns:
        A line for the head of the log: what the run starts from, and what that means.
    """
    if args.eval_only or args.resume or pretrained.KEY not in cfg.AUTO:
        return f"weights: {cfg.MODEL.WEIGHTS or 'random'}"
    chosen = pretrained.choose_weights(cfg, fetch=True)
    cfg.MODEL.WEIGHTS = chosen.value
    cfg.AUTO.remove(pretrained.KEY)
    return f"weights: {chosen}" if chosen.value else f"weights: {chosen.reason}"


def weights_to_inherit(cfg: CfgNode, args: argparse.Namespace) -> str:
    """Return the file whose `auto` values hold for this run, too; "" for a new training."""
    if args.eval_only:
        return cfg.MODEL.WEIGHTS
    return last_checkpoint(cfg.OUTPUT_DIR) if args.resume else ""


def read_saved(cfg: CfgNode, args: argparse.Namespace) -> dict[str, Any]:
    """Read what d2ext saved along with the weights that are resumed or evaluated.

    Weights that a new training starts from are only downloaded, in one process and with its
    progress shown.

    Returns:
        "config", YAML text, and "thing_classes", a list, as far as the file has them.
    Raises:
        WeightsError: the file is missing, unreadable, or cannot be downloaded.
    """
    weights = weights_to_inherit(cfg, args)
    if weights:
        return read_metadata(weights)
    if cfg.MODEL.WEIGHTS:
        local_file(cfg.MODEL.WEIGHTS)
    return {}


def saved_seed(dumped: str) -> int:
    """Return the seed of a dumped config; a resumed training draws the same random numbers."""
    tree = parse_yaml(dumped, "the config in the checkpoint")
    if not isinstance(tree, dict) or not isinstance(tree.get("SEED"), int):
        raise WeightsError("the config in the checkpoint has no SEED; give one: SEED NUMBER.")
    return tree["SEED"]


def read_stats(cfg: CfgNode, eval_only: bool) -> DatasetStats:
    """Return the statistics of the training data, or of the test data where nothing is trained.

    Raises:
        ConfigError: there are no test data to evaluate on.
        DataError: a data set cannot be read.
    """
    if not eval_only:
        return dataset_stats(cfg.DATASETS.TRAIN)
    if not cfg.DATASETS.TEST:
        raise ConfigError("--eval-only needs data: --val PATH")
    return dataset_stats(cfg.DATASETS.TEST)


def data_notes(cfg: CfgNode) -> list[str]:
    """Describe the data sets for the log, and write what was dropped from them to OUTPUT_DIR."""
    lines = describe_datasets((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, *cfg.DATASETS.FINAL))
    return lines + [f"what was dropped: {path}" for path in write_dropped(cfg.OUTPUT_DIR)]


def machine(cfg: CfgNode, args: argparse.Namespace) -> Machine:
    """Describe the hardware of the run, for rules of `auto` values."""
    device = cfg.MODEL.DEVICE.partition(":")[0]
    return Machine(
        device=device,
        processes=world_size(args),
        cores=(os.cpu_count() or 1) // max(1, args.num_gpus),
        bfloat16=native_bfloat16(device),
    )


def _check_name(key: str, name: str, known: Iterable[str]) -> None:
    known = sorted(known)
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(f"{key}: {name!r} is unknown; {hint}Known: {', '.join(known)}.")
