"""Gradient clipping: by value, by the norm per parameter, or by the norm of all parameters."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from d2ext.errors import ConfigError
from detectron2.config import CfgNode

Parameters = Sequence[nn.Parameter]
Clip = Callable[[Parameters], Tensor | None]


def build_clip(cfg: CfgNode) -> Clip | None:
    """Build the gradient clipping of `SOLVER.CLIP_GRADIENTS`.

    CLIP_TYPE "value" limits each gradient entry, "norm" the norm per parameter and "full_model" the
    norm over all parameters, each to CLIP_VALUE.

    Returns:
        A function that clips gradients in place and returns the norm over all of them before
        clipping, or None where it is not computed; None if clipping is disabled.
    Raises:
        ConfigError: CLIP_TYPE is unknown.
    """
    options = cfg.SOLVER.CLIP_GRADIENTS
    if not options.ENABLED:
        return None
    ways: dict[str, Clip] = {
        "value": partial(_by_value, limit=options.CLIP_VALUE),
        "norm": partial(_each_norm, limit=options.CLIP_VALUE, power=options.NORM_TYPE),
        "full_model": partial(
            clip_grad_norm_, max_norm=options.CLIP_VALUE, norm_type=options.NORM_TYPE
        ),
    }
    if options.CLIP_TYPE not in ways:
        raise ConfigError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {options.CLIP_TYPE!r}; known: {', '.join(ways)}."
        )
    return ways[options.CLIP_TYPE]


def _by_value(parameters: Parameters, limit: float) -> None:
    clip_grad_value_(parameters, limit)


def _each_norm(parameters: Parameters, limit: float, power: float) -> None:
    for parameter in parameters:
        clip_grad_norm_(parameter, limit, norm_type=power)
