"""Mixed precision: which half type the forward pass uses, on which device."""

import torch

from d2ext.errors import ConfigError
from detectron2.config import CfgNode

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def autocast_dtype(cfg: CfgNode) -> torch.dtype | None:
    """The half type of `SOLVER.AMP`; None where it is off.

    Raises:
        ConfigError: an unknown type, or float16 on a CPU, which has no arithmetic for it.
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
