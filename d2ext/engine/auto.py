"""Resolve `auto` values: numbers derived from dataset statistics and the machine."""

import logging
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from d2ext.config.load import num_classes_keys
from d2ext.config.plain_yaml import parse_yaml
from d2ext.data.separate_things import separates_things
from d2ext.data.statistics import DatasetStats
from d2ext.engine import pretrained
from d2ext.engine.auto_sizes import (
    is_semantic,
    max_size_test,
    max_size_train,
    min_size_test,
    min_size_train,
    samples_per_epoch,
    slice_size,
    tta_sides,
)
from d2ext.engine.batch_probe import largest_batch
from d2ext.engine.machine import Machine
from d2ext.engine.reasoned import Reasoned
from d2ext.errors import ConfigError
from d2ext.registry import ExtensionRegistry
from detectron2.config import CfgNode

COCO_KEYPOINTS = 17
MAX_BATCH_PER_GPU = 32
CPU_IMAGES = 2400  # shown by a training on a CPU
CPU_IMAGES_PRETRAINED = 1400  # what one core trains on within five minutes
CPU_IMAGES_MASKS = 1000  # the same with masks
STUFF_AREA = 4096  # least area of stuff in pixels, as published for COCO
STUFF_SHARE = 1 / 75  # what that is of 640x480, COCO's usual size

logger = logging.getLogger(__name__)


Rule = Callable[[CfgNode, DatasetStats, Machine], Any]

_RULES: ExtensionRegistry[str, Rule] = ExtensionRegistry("rule for auto")


def register_auto(key: str, rule: Rule) -> None:
    """Register the rule that derives a config key from `auto`.

    A project calls it when it is imported.

    Args:
        key: full name, e.g. "SOLVER.BASE_LR"; its default in the config sets the type.
        rule: called with the config, the statistics of the training data (of the evaluation data
            where nothing is trained) and the machine. It returns the value, or a `Reasoned` value
            whose reason is logged, and changes nothing. Rules run in the order of registration,
            so the config holds the values of all keys registered earlier.
    Raises:
        ValueError: the key has a rule.
    """
    _RULES.register(key, rule)


def resolve_auto(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> dict[str, Any]:
    """Replace every key of `cfg.AUTO` in place by a plain value.

    Returns:
        The derived values by key.
    """
    decided: dict[str, Any] = {}
    for key in [k for k in _RULES if k in cfg.AUTO]:
        found = decided[key] = _RULES.get(key, key)(cfg, stats, machine)
        _write(cfg, key, found.value if isinstance(found, Reasoned) else found)
    for key in [k for k in cfg.AUTO if k not in _RULES]:  # class counts: see `check_auto`
        decided[key] = len(stats.class_names)
        _write(cfg, key, decided[key])
    cfg.AUTO = []
    return decided


def check_auto(cfg: CfgNode) -> None:
    """Check that every key given as `auto` has a rule.

    Raises:
        ConfigError: a key of `cfg.AUTO` has none and is not a class count.
    """
    counts = num_classes_keys(cfg)
    unknown = [key for key in cfg.AUTO if key not in _RULES and key not in counts]
    if unknown:
        raise ConfigError(
            f"{unknown[0]} cannot be auto. Keys that can: {', '.join(sorted(_RULES))}."
        )


def inherit_auto(cfg: CfgNode, dumped: str) -> None:
    """Copy the keys of `cfg.AUTO` from the config that weights were trained with, in place.

    Args:
        dumped: YAML text, as written by `cfg.dump()`. Keys that it lacks remain `auto`.
    """
    tree = parse_yaml(dumped, "the config in the checkpoint")
    for key in list(cfg.AUTO):
        value = _read(tree, key)
        if value is not None:
            _write(cfg, key, value)
            cfg.AUTO.remove(key)


def describe(
    decided: dict[str, Any], names: Sequence[str], sections: Collection[str] | None = None
) -> str:
    """Format derived values for the log, one line per section of the config.

    Args:
        names: of the data sets.
        sections: those that the model was built from, such as "MODEL.SWIN"; other values below
            MODEL are left out. None: all count.
    """
    lines: dict[str, list[str]] = {}
    for key, value in decided.items():
        section, _, name = key.rpartition(".")
        if sections is None or not section.startswith("MODEL.") or section in sections:
            lines.setdefault(section, []).append(f"{name} {value}")
    text = (f"  {section}: {', '.join(values)}" for section, values in lines.items())
    return "\n".join([f"derived from {', '.join(names)} and this machine:", *text])


def _read(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _write(cfg: CfgNode, key: str, value: Any) -> None:
    cfg.merge_from_list([key, value])


def _weights(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> Reasoned:
    """Choose among the weights of this machine; `prepare` has downloaded before."""
    return pretrained.choose_weights(cfg, download=False)


def _pixel_format(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> str:
    """Take the order of channels that the weights were trained with; RGB if nobody says so."""
    return (pretrained.pixels_of(cfg.MODEL.WEIGHTS) or pretrained.IMAGENET_PIXELS).format


def _pixel_mean(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> list[float]:
    """Take the mean that the weights were trained with; ImageNet's if nobody says so."""
    return list((pretrained.pixels_of(cfg.MODEL.WEIGHTS) or pretrained.IMAGENET_PIXELS).mean)


def _pixel_std(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> list[float]:
    """Take the deviation that the weights were trained with; ImageNet's if nobody says so."""
    return list((pretrained.pixels_of(cfg.MODEL.WEIGHTS) or pretrained.IMAGENET_PIXELS).std)


def _freeze_at(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Freeze the stem and the first stage of pretrained weights."""
    return pretrained.freeze_at(cfg)


def _freeze_backbone_parts(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> bool:
    """Freeze norms and depthwise convolutions of pretrained weights on a CPU.

    There, their gradients take much of the backbone's time, as far as d2ext's operators are not
    compiled: see the table in docs/operators.md.
    """
    return _is_short(cfg, machine)


def _cpu_budget(cfg: CfgNode) -> int:
    """Return the number of images that a short training on a CPU shows."""
    masks = cfg.MODEL.MASK_ON or is_semantic(cfg)
    return CPU_IMAGES_MASKS if masks else CPU_IMAGES_PRETRAINED


def _is_short(cfg: CfgNode, machine: Machine) -> bool:
    """Return true for a training from pretrained weights on a CPU."""
    return machine.device == "cpu" and bool(cfg.MODEL.WEIGHTS)


def _param_groups(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> list[dict[str, object]]:
    """Let a pretrained backbone learn slower."""
    return pretrained.param_groups(cfg)


def _anchor_sizes(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> list[list[int]]:
    """Derive anchor sizes: 8 strides from 512 pixels on, as published; 4 strides below."""
    base = 64 if cfg.INPUT.MIN_SIZE_TEST >= 512 else 32
    return [[base * 2**level] for level in range(5)]


def _batch_size(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int | Reasoned:
    """Derive the batch size: on a GPU what fits into its memory, on a CPU its cores, at least 4.

    A short training on a CPU, whose norms are frozen, may take 2: it needs many steps. An epoch has
    at least eight batches, so that a tiny data set is not one batch. Without a probe, a GPU gets 2
    images of 800 pixels, more if smaller.
    """
    fitting = max(1, len(stats.image_sizes) // (8 * machine.processes))
    if machine.device != "cuda":
        fewest = 2 if _is_short(cfg, machine) else 4
        return machine.processes * min(max(fewest, min(16, machine.cores)), fitting)
    per_gpu = min(16, max(2, 2 * (800 // max(cfg.INPUT.MIN_SIZE_TRAIN)) ** 2))
    if machine.probe is None:
        return machine.processes * min(per_gpu, fitting)
    size = largest_batch(machine.probe(cfg, stats), per_gpu, min(MAX_BATCH_PER_GPU, fitting))
    return Reasoned(machine.processes * size, "a training step of so many images was tried")


def _use_checkpoint(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> bool:
    """Switch gradient checkpointing on from 512 pixels on; smaller inputs fit into memory."""
    return max(cfg.INPUT.MIN_SIZE_TRAIN) >= 512


def _epochs(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Derive the epochs that show 120,000 images on a GPU or 2,400 on a CPU; at most 100.

    From pretrained weights, a CPU learns from 1,400; from 1,000 with masks, which take more time.
    """
    count = len(stats.image_sizes)
    if machine.device == "cuda":
        return min(100, max(12, math.ceil(120_000 / count)))
    images = _cpu_budget(cfg) if _is_short(cfg, machine) else CPU_IMAGES
    return min(100, max(3, math.ceil(images / count)))


def _drop_path(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> float:
    """Derive the drop path rate: 0.2 from 100,000 images seen on, proportionally less below.

    Short trainings underfit, and stochastic depth would slow them further.
    """
    images = _iterations(cfg, stats) * cfg.SOLVER.IMS_PER_BATCH
    return round(0.2 * min(1.0, images / 100_000), 2)


def _mixed_precision(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> bool:
    """Enable mixed precision where bfloat16 is native; emulation would be slower than float32."""
    return machine.bfloat16


def _learning_rate(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> float:
    """Derive the learning rate from the batch size and SOLVER.LR_FOR_16_IMAGES.

    AdamW scales by the square root of the batch size, SGD linearly.
    """
    solver = cfg.SOLVER
    ratio = solver.IMS_PER_BATCH * solver.ACCUMULATE / 16
    adaptive = solver.OPTIMIZER == "ADAMW"
    rate = solver.LR_FOR_16_IMAGES or (2e-4 if adaptive else 0.01)
    return float(f"{rate * (math.sqrt(ratio) if adaptive else ratio):.3g}")


def _iterations(cfg: CfgNode, stats: DatasetStats) -> int:
    per_epoch = math.ceil(samples_per_epoch(cfg, stats) / cfg.SOLVER.IMS_PER_BATCH)
    return cfg.SOLVER.MAX_EPOCHS * per_epoch if cfg.SOLVER.MAX_EPOCHS else cfg.SOLVER.MAX_ITER


def _warmup(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Derive the warm-up: 5 % of the training, at most 1000 iterations."""
    return min(1000, max(1, _iterations(cfg, stats) // 20))


def _period(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Derive the evaluation period: 10 times per training on a GPU, 4 on a CPU.

    It is never shorter than an epoch. A training of minutes, from pretrained weights on a CPU, is
    evaluated at its end alone.
    """
    per_epoch = math.ceil(samples_per_epoch(cfg, stats) / cfg.SOLVER.IMS_PER_BATCH)
    iterations = _iterations(cfg, stats)
    times = 10 if machine.device == "cuda" else 4
    if _is_short(cfg, machine):
        shown = iterations / per_epoch * len(stats.image_sizes)
        times = min(times, int(shown) // _cpu_budget(cfg))
    return max(per_epoch, math.ceil(iterations / max(1, times)))


def _workers(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Derive the data workers: up to 4 for a GPU; 0 on a CPU, whose cores train."""
    return min(4, max(0, machine.cores - 1)) if machine.device == "cuda" else 0


def _mask_format(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> str:
    """Choose bitmasks where the data have run lengths, which cannot become polygons."""
    return "bitmask" if stats.run_lengths else "polygon"


def _pixel_classes(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Count the classes of the semantic masks; all things are one where the model wants that."""
    if separates_things(cfg):
        return 1 + len(stats.stuff_names) - len(stats.thing_ids)
    return len(stats.stuff_names)


def _stuff_area(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Derive the least area of stuff: as large a share of the median image as published for COCO.

    The published 4096 pixels would leave out all stuff of images below 64x64.
    """
    median = float(np.median(stats.image_sizes.prod(axis=1)))
    return min(STUFF_AREA, round(STUFF_SHARE * median))


def _num_keypoints(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Return the number of keypoints per object of the data."""
    return stats.num_keypoints


def _keypoint_sigmas(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> list[float]:
    """Choose OKS sigmas: COCO's own (an empty list) for 17 keypoints, else their mean for each."""
    # COCO publishes a sigma for each of its own keypoints only; 0.067 is their mean.
    return [] if stats.num_keypoints == COCO_KEYPOINTS else [0.067] * stats.num_keypoints


# The order matters: a rule reads the values of the keys above it.
register_auto(pretrained.KEY, _weights)
register_auto("INPUT.FORMAT", _pixel_format)
register_auto("MODEL.PIXEL_MEAN", _pixel_mean)
register_auto("MODEL.PIXEL_STD", _pixel_std)
register_auto("MODEL.BACKBONE.FREEZE_AT", _freeze_at)
register_auto("MODEL.TIMM.FREEZE_NORM", _freeze_backbone_parts)
register_auto("MODEL.TIMM.FREEZE_DEPTHWISE", _freeze_backbone_parts)
register_auto("SOLVER.PARAM_GROUPS", _param_groups)
register_auto("INPUT.SLICE_SIZE", slice_size)
register_auto("INPUT.MIN_SIZE_TRAIN", min_size_train)
register_auto("INPUT.MAX_SIZE_TRAIN", max_size_train)
register_auto("INPUT.MIN_SIZE_TEST", min_size_test)
register_auto("INPUT.MAX_SIZE_TEST", max_size_test)
register_auto("TEST.AUG.MIN_SIZES", tta_sides)
register_auto("INPUT.MASK_FORMAT", _mask_format)
register_auto("MODEL.SEM_SEG_HEAD.NUM_CLASSES", _pixel_classes)
register_auto("MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", _stuff_area)
register_auto("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", _num_keypoints)
register_auto("TEST.KEYPOINT_OKS_SIGMAS", _keypoint_sigmas)
register_auto("MODEL.ANCHOR_GENERATOR.SIZES", _anchor_sizes)
register_auto("MODEL.DYHEAD.USE_CHECKPOINT", _use_checkpoint)
register_auto("MODEL.SWIN.USE_CHECKPOINT", _use_checkpoint)
register_auto("DATALOADER.NUM_WORKERS", _workers)
register_auto("SOLVER.AMP.ENABLED", _mixed_precision)
register_auto("SOLVER.IMS_PER_BATCH", _batch_size)
register_auto("SOLVER.MAX_EPOCHS", _epochs)
register_auto("SOLVER.BASE_LR", _learning_rate)
register_auto("MODEL.SWIN.DROP_PATH_RATE", _drop_path)
register_auto("SOLVER.WARMUP_ITERS", _warmup)
register_auto("SOLVER.CHECKPOINT_PERIOD", _period)
register_auto("TEST.EVAL_PERIOD", _period)
