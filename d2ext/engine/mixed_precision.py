"""Automatic mixed precision (AMP): the dtype of the forward pass."""

import torch

from d2ext.errors import ConfigError
from detectron2.config import CfgNode

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def autocast_dtype(cfg: CfgNode) -> torch.dtype | None:
    """Return the dtype of `SOLVER.AMP`; None if it is disabled.

    Raises:
        ConfigError: the dtype is unknown, or float16 on a CPU, which cannot train with it.
    """
    amp = cfg.SOLVER.AMP
    if not amp.ENABLED:
        return None
    if amp.DTYPE not in _DTYPES:
        raise ConfigError(f"SOLVER.AMP.DTYPE is {amp.DTYPE!r}; known: {', '.join(_DTYPES)}.")
    if amp.DTYPE == "float16" and torch.device(cfg.MODEL.DEVICE).type == "cpu":
        raise ConfigError(
            "SOLVER.AMP.DTYPE float16 does not train on a CPU: set SOLVER.AMP.DTYPE bfloat16 or "
            "SOLVER.AMP.ENABLED False."
        )
    return _DTYPES[amp.DTYPE]
