"""From the command's arguments to a config of plain values.

Whatever can be wrong with config, data, weights and folders is found here, before training starts.
"""

import argparse
import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import torch
import yaml

import d2ext.modeling  # noqa: F401 # registers the models
from d2ext import __version__
from d2ext._detectron2 import provider
from d2ext.checkpoint import check_classes, last_checkpoint, local_file, read_metadata
from d2ext.config import load_config
from d2ext.config.load import class_counts, find_config
from d2ext.data import DatasetStats, dataset_stats, write_faults
from d2ext.data.registered import described
from d2ext.engine.align_classes import align_classes
from d2ext.engine.auto import (
    COCO_KEYPOINTS,
    Machine,
    check_auto,
    describe,
    inherit_auto,
    resolve_auto,
)
from d2ext.engine.check_before_training import check_before_training
from d2ext.engine.dataset_arguments import use_data_sets
from d2ext.engine.devices import choose_device, native_bfloat16
from d2ext.engine.launch import world_size
from d2ext.engine.schedule import resolve_schedule
from d2ext.engine.task import check_model_data, check_task
from d2ext.errors import ConfigError, OutputError
from d2ext.ops import EXTENSION_STATE
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY


@dataclass
class RunSpec:
    """A run that is ready to start: picklable, so that every process gets the same.

    Args:
        cfg: plain values only; `cfg.AUTO` is empty.
        notes: lines for the head of the log.
    """

    cfg: CfgNode
    notes: list[str]


def prepare(args: argparse.Namespace) -> RunSpec:
    """Resolve and check everything that training or evaluation needs.

    Raises:
        UserError: with one message that names the file or key and the remedy.
    """
    notes = [f"d2ext {__version__}, detectron2 {provider()}, torch {torch.__version__}"]
    notes.append(EXTENSION_STATE)
    args.config_file = str(find_config(args.config_file))
    cfg = load_config(args.config_file, args.opts)
    check_auto(cfg)
    notes += use_data_sets(cfg, args)
    notes += _use_device(cfg, args.num_gpus)
    _check_names(cfg)
    if args.eval_only and "OUTPUT_DIR" not in args.opts:
        cfg.OUTPUT_DIR = str(
            Path(cfg.OUTPUT_DIR, "eval")
        )  # the training's own files stay as they are
    _check_output(Path(cfg.OUTPUT_DIR))
    if cfg.MODEL.WEIGHTS and not (args.resume and last_checkpoint(cfg.OUTPUT_DIR)):
        local_file(cfg.MODEL.WEIGHTS)  # here, where a download is made once and shows its progress
    notes += _inherit(cfg, args)
    notes += align_classes(cfg, args.eval_only, _names_of_weights(cfg) if args.eval_only else None)
    stats = _stats(cfg, args.eval_only)
    notes += described((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, *cfg.DATASETS.FINAL))
    notes += [f"what was dropped: {path}" for path in write_faults(cfg.OUTPUT_DIR)]
    notes += check_before_training(cfg) if not (args.eval_only or args.resume) else []
    check_task(cfg, stats.annotated)
    _check_class_counts(cfg, stats)
    _check_keypoints(cfg, stats)
    names = cfg.DATASETS.TEST if args.eval_only else cfg.DATASETS.TRAIN
    decided = resolve_auto(cfg, stats, machine(cfg, args))
    notes += [describe(decided, names)] if decided else []
    if not args.eval_only:
        notes += resolve_schedule(cfg) + check_model_data(cfg, stats)
    cfg.SEED = cfg.SEED if cfg.SEED >= 0 else int(torch.seed() % 2**31)
    return RunSpec(cfg, notes)


def machine(cfg: CfgNode, args: argparse.Namespace) -> Machine:
    """What `auto` values may know of the machine."""
    device = cfg.MODEL.DEVICE.partition(":")[0]
    return Machine(
        device=device,
        processes=world_size(args),
        cores=(os.cpu_count() or 1) // max(1, args.num_gpus),
        bfloat16=native_bfloat16(device),
    )


def _use_device(cfg: CfgNode, num_gpus: int) -> list[str]:
    cfg.MODEL.DEVICE, note = choose_device(cfg.MODEL.DEVICE, num_gpus)
    return [note] if note else []


def _check_names(cfg: CfgNode) -> None:
    architectures = [name for name, _ in META_ARCH_REGISTRY]
    _check_name("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, architectures)
    backbones = [name for name, _ in BACKBONE_REGISTRY]
    _check_name("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, backbones)
    for key in ("TRAIN", "TEST", "FINAL"):
        for name in cfg.DATASETS[key]:
            _check_name(f"DATASETS.{key}", name, DatasetCatalog.list())


def _check_name(key: str, name: str, known: Iterable[str]) -> None:
    known = sorted(known)
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(f"{key}: {name!r} is unknown; {hint}Known: {', '.join(known)}.")


def _check_output(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written to ({error.strerror}); OUTPUT_DIR FOLDER names another."
        ) from error


def _inherit(cfg: CfgNode, args: argparse.Namespace) -> list[str]:
    """What was `auto` when the weights were trained stays as it was, and so does a seed drawn."""
    weights = last_checkpoint(cfg.OUTPUT_DIR) if args.resume else cfg.MODEL.WEIGHTS
    if not weights or not (args.resume or args.eval_only):
        return []
    dumped = read_metadata(weights).get("config")
    if dumped is None:
        return []
    if args.resume and cfg.SEED < 0:
        cfg.SEED = yaml.safe_load(dumped)["SEED"]
    inherit_auto(cfg, dumped)
    return [f"values that are auto: as in {weights}"]


def _names_of_weights(cfg: CfgNode) -> list[str] | None:
    """The classes that MODEL.WEIGHTS was trained for, as far as the file says."""
    return read_metadata(cfg.MODEL.WEIGHTS).get("thing_classes") if cfg.MODEL.WEIGHTS else None


def _stats(cfg: CfgNode, eval_only: bool) -> DatasetStats:
    """Facts of the training data, or of the evaluation data where there is no training."""
    if not eval_only:
        return dataset_stats(cfg.DATASETS.TRAIN)
    if not cfg.DATASETS.TEST:
        raise ConfigError("--eval-only needs data: --val PATH")
    test = dataset_stats(cfg.DATASETS.TEST)
    check_classes(_names_of_weights(cfg), test.class_names)
    return test


def _check_class_counts(cfg: CfgNode, stats: DatasetStats) -> None:
    for key, given in class_counts(cfg).items():
        if key not in cfg.AUTO and given != len(stats.class_names):
            raise ConfigError(
                f"{key} is {given}, but the data has {len(stats.class_names)} classes "
                f"({', '.join(stats.class_names)}). Leave the key out: it follows the data."
            )


def _check_keypoints(cfg: CfgNode, stats: DatasetStats) -> None:
    """How many there are, and a deviation for each where they are not COCO's."""
    if not cfg.MODEL.KEYPOINT_ON:
        return
    key, given = "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    if key not in cfg.AUTO and given != stats.num_keypoints:
        raise ConfigError(
            f"{key} is {given}, but objects of the data have {stats.num_keypoints}. "
            f"{key} auto follows the data."
        )
    key, given = "TEST.KEYPOINT_OKS_SIGMAS", len(cfg.TEST.KEYPOINT_OKS_SIGMAS)
    count, whose = (given, "") if given else (COCO_KEYPOINTS, "those of COCO, ")
    if key not in cfg.AUTO and count != stats.num_keypoints:
        raise ConfigError(
            f"{key} has {count} values, {whose}but objects of the data have {stats.num_keypoints} "
            f"keypoints. {key} auto takes the same for each."
        )
