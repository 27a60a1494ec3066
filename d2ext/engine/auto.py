"""`auto` values: what depends on the data or the machine, derived once and then plain numbers."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from d2ext.config.load import class_counts
from d2ext.data.mappers import mapper_name
from d2ext.data.statistics import DatasetStats
from d2ext.errors import ConfigError
from detectron2.config import CfgNode

COCO_KEYPOINTS = 17

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Machine:
    """What is known of the machine.

    Args:
        device: "cpu" or "cuda".
        processes: training processes on all machines together.
        cores: CPU cores for each process.
        bfloat16: the device computes in bfloat16 without emulation.
    """

    device: str
    processes: int
    cores: int
    bfloat16: bool


@dataclass(frozen=True)
class Reasoned:
    """A derived value that the log says more of."""

    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.value} ({self.reason})"


def resolve_auto(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> dict[str, Any]:
    """Replace every key of `cfg.AUTO` by a plain value; returns what was decided.

    Keys are derived in the order of `DERIVABLE`: later rules read what earlier ones wrote.
    """
    decided: dict[str, Any] = {}
    for key in [k for k in DERIVABLE if k in cfg.AUTO]:
        found = decided[key] = DERIVABLE[key](cfg, stats, machine)
        _write(cfg, key, found.value if isinstance(found, Reasoned) else found)
    for key in [k for k in cfg.AUTO if k not in DERIVABLE]:  # class counts
        decided[key] = len(stats.class_names)
        _write(cfg, key, decided[key])
    cfg.AUTO = []
    return decided


def check_auto(cfg: CfgNode) -> None:
    """Check that every key given as `auto` has a rule.

    Raises:
        ConfigError: a key of `cfg.AUTO` cannot be derived.
    """
    counts = class_counts(cfg)
    unknown = [key for key in cfg.AUTO if key not in DERIVABLE and key not in counts]
    if unknown:
        raise ConfigError(
            f"{unknown[0]} cannot be auto. Keys that can: {', '.join(sorted(DERIVABLE))}."
        )


def inherit_auto(cfg: CfgNode, dumped: str) -> None:
    """Take keys of `cfg.AUTO` from the config that weights were trained with.

    Args:
        dumped: YAML, as `cfg.dump()` gives it.
    """
    tree = yaml.safe_load(dumped)
    for key in list(cfg.AUTO):
        value = _read(tree, key)
        if value is not None:
            _write(cfg, key, value)
            cfg.AUTO.remove(key)


def _short_side(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """The images' own short side: half as much again for a GPU, less for a CPU; multiple of 32.

    For a CPU it is less only as far as half of the objects keep 16 pixels.
    """
    native = float(np.median(stats.image_sizes.min(axis=1)))
    if machine.device == "cuda":
        return max(64, 32 * round(min(800.0, 1.5 * native) / 32))
    typical = np.median(np.sqrt(stats.object_sizes.prod(axis=1))) if len(stats.object_sizes) else 64
    legible = native * min(1.0, 16 / max(1.0, float(typical)))
    return max(64, 32 * round(max(min(256.0, 0.8 * native), min(800.0, legible)) / 32))


def _min_size_train(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> tuple[int, ...]:
    """The short side and, on a GPU, smaller ones down to 60% of it, for scale jitter."""
    side = _short_side(cfg, stats, machine)
    if machine.device == "cpu":
        return (side,)
    return tuple(range(32 * round(0.6 * side / 32), side + 1, 32))


def _max_size(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Five thirds of the short side, as 1333 is to 800."""
    return math.ceil(_short_side(cfg, stats, machine) * 5 / 3)


def _anchor_sizes(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> list[list[int]]:
    """Eight strides, as published, for images of 512 pixels and more; four for smaller ones."""
    base = 64 if cfg.INPUT.MIN_SIZE_TEST >= 512 else 32
    return [[base * 2**level] for level in range(5)]


def _batch_size(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Two 800-pixel images a GPU and more small ones, four on a CPU; at most 1/8 of all."""
    per_process = 4
    if machine.device == "cuda":
        per_process = min(16, max(2, 2 * (800 // max(cfg.INPUT.MIN_SIZE_TRAIN)) ** 2))
    fitting = max(1, len(stats.image_sizes) // (8 * machine.processes))
    return machine.processes * min(per_process, fitting)


def _use_checkpoint(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> bool:
    """Where images are large: small ones leave memory that is better spent on speed."""
    return max(cfg.INPUT.MIN_SIZE_TRAIN) >= 512


def _epochs(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """As many as show the model 120,000 images on a GPU and 2,400 on a CPU, within bounds."""
    count = len(stats.image_sizes)
    if machine.device == "cuda":
        return min(100, max(12, math.ceil(120_000 / count)))
    return min(100, max(3, math.ceil(2_400 / count)))


def _drop_path(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> float:
    """The published 0.2 from 100,000 images on, in proportion below: short trainings underfit."""
    images = _iterations(cfg, stats) * cfg.SOLVER.IMS_PER_BATCH
    return round(0.2 * min(1.0, images / 100_000), 2)


def _mixed_precision(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> bool:
    """Where bfloat16 is native; emulated it would cost time instead of saving it."""
    return machine.bfloat16


def _learning_rate(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> float:
    """AdamW: 2e-4 at 16 images, by the square root of the batch; SGD: 0.01 at 16, in proportion."""
    ratio = cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.ACCUMULATE / 16
    adaptive = cfg.SOLVER.OPTIMIZER == "ADAMW"
    return float(f"{2e-4 * math.sqrt(ratio) if adaptive else 0.01 * ratio:.3g}")


def _iterations(cfg: CfgNode, stats: DatasetStats) -> int:
    per_epoch = math.ceil(len(stats.image_sizes) / cfg.SOLVER.IMS_PER_BATCH)
    return cfg.SOLVER.MAX_EPOCHS * per_epoch if cfg.SOLVER.MAX_EPOCHS else cfg.SOLVER.MAX_ITER


def _warmup(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """A twentieth of the training, at most 1000 iterations."""
    return min(1000, max(1, _iterations(cfg, stats) // 20))


def _period(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Ten times in a training on a GPU, four on a CPU; not more often than once an epoch."""
    per_epoch = math.ceil(len(stats.image_sizes) / cfg.SOLVER.IMS_PER_BATCH)
    times = 10 if machine.device == "cuda" else 4
    return max(per_epoch, math.ceil(_iterations(cfg, stats) / times))


def _workers(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """One a core up to four; none on a CPU, where training itself uses the cores."""
    return min(4, max(0, machine.cores - 1)) if machine.device == "cuda" else 0


def _mapper(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> str:
    """The dataset mapper that the meta-architecture asks for."""
    return mapper_name(cfg)


def _mask_format(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> str:
    """Bitmaps where the data have some: run lengths cannot become polygons."""
    return "bitmask" if stats.run_lengths else "polygon"


def _pixel_classes(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Those of the semantic masks."""
    return len(stats.stuff_names)


def _num_keypoints(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> int:
    """Those of an object of the data."""
    return stats.num_keypoints


def _keypoint_sigmas(cfg: CfgNode, stats: DatasetStats, machine: Machine) -> list[float]:
    """COCO's own for as many keypoints as COCO has, else their mean for each."""
    return [] if stats.num_keypoints == COCO_KEYPOINTS else [0.067] * stats.num_keypoints


Rule = Callable[[CfgNode, DatasetStats, Machine], Any]

DERIVABLE: dict[str, Rule] = {
    "INPUT.MIN_SIZE_TRAIN": _min_size_train,
    "INPUT.MAX_SIZE_TRAIN": _max_size,
    "INPUT.MIN_SIZE_TEST": _short_side,
    "INPUT.MAX_SIZE_TEST": _max_size,
    "INPUT.MASK_FORMAT": _mask_format,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": _pixel_classes,
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": _num_keypoints,
    "TEST.KEYPOINT_OKS_SIGMAS": _keypoint_sigmas,
    "MODEL.ANCHOR_GENERATOR.SIZES": _anchor_sizes,
    "MODEL.DYHEAD.USE_CHECKPOINT": _use_checkpoint,
    "MODEL.SWIN.USE_CHECKPOINT": _use_checkpoint,
    "DATALOADER.MAPPER": _mapper,
    "DATALOADER.NUM_WORKERS": _workers,
    "SOLVER.IMS_PER_BATCH": _batch_size,
    "SOLVER.MAX_EPOCHS": _epochs,
    "SOLVER.BASE_LR": _learning_rate,
    "SOLVER.AMP.ENABLED": _mixed_precision,
    "MODEL.SWIN.DROP_PATH_RATE": _drop_path,
    "SOLVER.WARMUP_ITERS": _warmup,
    "SOLVER.CHECKPOINT_PERIOD": _period,
    "TEST.EVAL_PERIOD": _period,
}


def register_auto(key: str, rule: Rule) -> None:
    """Let `auto` stand for `key` of a plugin's section; `rule` reads what earlier ones wrote."""
    DERIVABLE[key] = rule


def _read(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _write(cfg: CfgNode, key: str, value: Any) -> None:
    cfg.merge_from_list([key, value])


def describe(decided: dict[str, Any], names: Sequence[str]) -> str:
    """One line a derived value, for the log."""
    lines = [f"  {key} = {value}" for key, value in decided.items()]
    return f"derived from {', '.join(names)} and this machine:\n" + "\n".join(lines)
