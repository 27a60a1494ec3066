"""Check numbers of a config that would fail, or do nothing, far from their cause."""

import math
from typing import Any

from d2ext.errors import ConfigError
from detectron2.config import CfgNode

_LEAST = {
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.ACCUMULATE": 1,
    "SOLVER.MAX_EPOCHS": 0,
    "SOLVER.MAX_ITER": 0,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.CHECKPOINT_PERIOD": 0,
    "SOLVER.KEEP_CHECKPOINTS": 0,
    "SOLVER.REFERENCE_BATCH_SIZE": 0,
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MIN_SIZE_TEST": 0,
    "INPUT.MAX_SIZE_TEST": 1,
    "INPUT.MAX_SIZE_TRAIN": 1,
    "TEST.EVAL_PERIOD": 0,
    "TEST.DETECTIONS_PER_IMAGE": 1,
    "TEST.PATIENCE": 0,
}
_NOT_NEGATIVE = ("SOLVER.BASE_LR", "SOLVER.WEIGHT_DECAY", "SOLVER.MOMENTUM")
_ABOVE_ZERO = ("SOLVER.BASE_LR",)

_CHOICES = {
    "INPUT.RANDOM_FLIP": ("horizontal", "vertical", "none"),
    "INPUT.FORMAT": ("BGR", "RGB", "L", "YUV-BT.601"),
}


def check_values(cfg: CfgNode) -> None:
    """Check counts, sizes and rates; keys that are still `auto` have defaults, which are good.

    Raises:
        ConfigError: a value is too small, or not finite.
    """
    for key, least in _LEAST.items():
        value = _read(cfg, key)
        if value < least:
            raise ConfigError(f"{key} is {value}; it must be at least {least}.")
    for key in _NOT_NEGATIVE:
        value = _read(cfg, key)
        if not math.isfinite(value) or value < 0 or (value == 0 and key in _ABOVE_ZERO):
            bound = "above 0" if key in _ABOVE_ZERO else "0 or more"
            raise ConfigError(f"{key} is {value}; it must be {bound}.")
    for key, known in _CHOICES.items():
        if _read(cfg, key) not in known:
            raise ConfigError(f"{key} is {_read(cfg, key)!r}; known: {', '.join(known)}.")
    _check_pixel_statistics(cfg)


def _check_pixel_statistics(cfg: CfgNode) -> None:
    # `auto` follows the weights, and is RGB without any; its default here is Detectron2's BGR.
    order = "RGB" if "INPUT.FORMAT" in cfg.AUTO else cfg.INPUT.FORMAT
    channels = 1 if order == "L" else 3
    for key in ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"):
        if len(_read(cfg, key)) != channels:
            raise ConfigError(
                f"{key} has {len(_read(cfg, key))} numbers; images of INPUT.FORMAT {order} "
                f"have {channels}."
            )
    if not all(cfg.MODEL.PIXEL_STD):
        raise ConfigError("MODEL.PIXEL_STD has a 0, which pixels cannot be divided by.")


def _read(cfg: CfgNode, key: str) -> Any:
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return node
