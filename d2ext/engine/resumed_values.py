"""Values of a command that a resumed run cannot take: its saved state holds others."""

from collections.abc import Sequence
from typing import Any

from d2ext.errors import ConfigError
from detectron2.config import CfgNode

# What the states of optimizer, schedule and sampler hold; a value of the command would be ignored,
# or go on with the momenta of another optimizer.
_KEYS = (
    "SEED",
    "SOLVER.OPTIMIZER",
    "SOLVER.LR_SCHEDULER_NAME",
    "SOLVER.WARMUP_METHOD",
    "SOLVER.MOMENTUM",
    "SOLVER.NESTEROV",
    "SOLVER.WEIGHT_DECAY",
    "SOLVER.WEIGHT_DECAY_NORM",
    "SOLVER.WEIGHT_DECAY_BIAS",
    "SOLVER.BIAS_LR_FACTOR",
    "SOLVER.PARAM_GROUPS",
)


def check_resumed_values(cfg: CfgNode, saved: CfgNode, opts: Sequence[str]) -> list[str]:
    """Check that the KEY VALUE pairs of a command leave a run its optimizer, schedule and seed.

    Args:
        cfg: the config of the run with these pairs.
        saved: the config of the run.
    Returns:
        A line for the log if a learning rate is given, too: a recipe may have scaled the same one
        with the batch size.
    Raises:
        ConfigError: some differ; the message lists all of them.
    """
    typed = [key for key in _KEYS if key in opts[::2] and key not in cfg.AUTO]
    differing = [
        f"{key} is {_value(saved, key)} in the run, not {_value(cfg, key)}"
        for key in typed
        if _value(saved, key) != _value(cfg, key)
    ]
    if differing:
        raise ConfigError(
            f"--resume: {'; '.join(differing)}. A run goes on with its optimizer, schedule and "
            "seed. Leave that out, or start a new training; --weights FILE starts it from what "
            "this run has learned."
        )
    own, given = saved.SOLVER.BASE_LR, cfg.SOLVER.BASE_LR
    if "SOLVER.BASE_LR" not in opts[::2] or "SOLVER.BASE_LR" in cfg.AUTO or own == given:
        return []
    return [f"--resume goes on with the learning rate of the run, {own:g}: {given:g} is not used"]


def _value(cfg: CfgNode, key: str) -> Any:
    found: Any = cfg
    for part in key.split("."):
        found = found[part]
    return found
