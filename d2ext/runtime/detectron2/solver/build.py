"""Builders of the optimizer and the learning rate schedule."""

import logging
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, TypeVar

import torch
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    StepWithFixedGammaParamScheduler,
)
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from detectron2.config import CfgNode

from .lr_scheduler import LRMultiplier, WarmupParamScheduler

NORM_MODULES = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)

# Lists of a group with one entry per parameter; PyTorch adds names for named parameters.
_LISTS = ("params", "param_names")

_GradientClipper = Callable[[Tensor], Any]

OptimizerOrType = TypeVar("OptimizerOrType", Optimizer, type[Optimizer])


class GradientClipType(Enum):
    """Type of gradient clipping, `SOLVER.CLIP_GRADIENTS.CLIP_TYPE`."""

    VALUE = "value"  # clip every entry
    NORM = "norm"  # clip the norm


def _create_gradient_clipper(cfg: CfgNode) -> _GradientClipper:
    limit = cfg.CLIP_VALUE
    if GradientClipType(cfg.CLIP_TYPE) == GradientClipType.VALUE:
        return lambda parameter: nn.utils.clip_grad_value_(parameter, limit)
    return lambda parameter: nn.utils.clip_grad_norm_(parameter, limit, cfg.NORM_TYPE)


def maybe_add_gradient_clipping(cfg: CfgNode, optimizer: OptimizerOrType) -> OptimizerOrType:
    """Add gradient clipping, per parameter, to an optimizer.

    Args:
        cfg: config whose `SOLVER.CLIP_GRADIENTS` enables and configures it.
        optimizer: an optimizer, which is changed, or its class, which is subclassed.
    """
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return optimizer
    base: Any = optimizer if isinstance(optimizer, type) else type(optimizer)
    clip = _create_gradient_clipper(cfg.SOLVER.CLIP_GRADIENTS.clone())

    def step(self: Optimizer, closure: Callable[[], float] | None = None) -> float | None:
        for group in self.param_groups:
            for parameter in group["params"]:
                # Parameters without a part in this loss have no gradient.
                if parameter.grad is not None:
                    clip(parameter)
        return base.step(self, closure)

    clipping: Any = type(base.__name__ + "WithGradientClip", (base,), {"step": step})
    if isinstance(optimizer, type):
        return clipping
    # Keeps the object, and with it the groups and the state that others refer to.
    optimizer.__class__ = clipping
    return optimizer


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Build the SGD optimizer that `SOLVER` configures."""
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    optimizer = torch.optim.SGD(
        groups,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
        foreach=True,
    )
    return maybe_add_gradient_clipping(cfg, optimizer)


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: dict[str, dict[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """Build parameter groups for an optimizer; options that are None are left to the optimizer.

    Args:
        model: its parameters that require a gradient are grouped, each once.
        base_lr: learning rate.
        weight_decay: weight decay.
        weight_decay_norm: weight decay of normalisation layers.
        bias_lr_factor: learning rate of biases in multiples of `base_lr`.
        weight_decay_bias: weight decay of biases.
        lr_factor_func: maps a parameter's full name to a factor of `base_lr`.
        overrides: options by a parameter's last name, e.g. {"embedding": {"lr": 0.01}}.

    Returns:
        One group per distinct combination of options, in the order of their first parameters.

    Raises:
        ValueError: a factor is given without `base_lr`, or "bias" is overridden twice.
    """
    if base_lr is None and (lr_factor_func is not None or bias_lr_factor not in (None, 1.0)):
        raise ValueError("bias_lr_factor and lr_factor_func need base_lr.")
    defaults = _given(lr=base_lr, weight_decay=weight_decay)
    by_name = dict(overrides or {})
    bias_lr = None if bias_lr_factor in (None, 1.0) else (base_lr or 0.0) * bias_lr_factor
    bias = _given(lr=bias_lr, weight_decay=weight_decay_bias)
    if bias:
        if "bias" in by_name:
            raise ValueError("'bias' is both in overrides and in an argument of its own.")
        by_name["bias"] = bias

    groups = []
    for module, name, parameter in _trainable_parameters(model):
        settings = dict(defaults)
        if isinstance(module, NORM_MODULES):
            settings.update(_given(weight_decay=weight_decay_norm))
        if lr_factor_func is not None:
            settings["lr"] *= lr_factor_func(name)
        settings.update(by_name.get(name.rpartition(".")[2], {}))
        groups.append({"params": [parameter], **settings})
    return reduce_param_groups(groups)


def _given(**settings: float | None) -> dict[str, float]:
    return {name: value for name, value in settings.items() if value is not None}


def _trainable_parameters(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    seen: set[nn.Parameter] = set()
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            # Shared parameters appear in several modules.
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield module, f"{prefix}.{name}", parameter


def reduce_param_groups(params: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge groups with equal options, since an optimizer steps fewer groups faster.

    A parameter may be in several groups: it has the options of all, and the last one's where they
    conflict. Thus groups with options of a few parameters can follow those of a whole model.
    """
    joined: dict[tuple, dict[str, Any]] = {}
    for group in _expand_param_groups(params):
        settings = {name: value for name, value in group.items() if name not in _LISTS}
        whole = joined.setdefault(tuple(sorted(settings.items())), settings)
        for name in group.keys() - settings.keys():
            whole.setdefault(name, []).extend(group[name])
    return list(joined.values())


def _expand_param_groups(params: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Expand to one group per parameter, in order of first appearance."""
    single: dict[nn.Parameter, dict[str, Any]] = {}
    for group in params:
        for index, parameter in enumerate(group["params"]):
            lists = {name: [group[name][index]] for name in _LISTS if name in group}
            single.setdefault(parameter, {}).update(group | lists)
    return list(single.values())


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """Build the learning rate schedule with warm-up named by `SOLVER.LR_SCHEDULER_NAME`.

    Raises:
        ValueError: the name is unknown, or a cosine schedule would not decrease.
    """
    solver = cfg.SOLVER
    # Lazily built: only the chosen schedule checks its settings.
    schedules = {
        "WarmupMultiStepLR": _multi_step,
        "WarmupCosineLR": _cosine,
        "WarmupStepWithFixedGammaLR": _fixed_gamma,
    }
    if solver.LR_SCHEDULER_NAME not in schedules:
        raise ValueError(
            f"Unknown SOLVER.LR_SCHEDULER_NAME '{solver.LR_SCHEDULER_NAME}': "
            f"{', '.join(schedules)} are known."
        )
    multiplier = WarmupParamScheduler(
        schedules[solver.LR_SCHEDULER_NAME](solver),
        solver.WARMUP_FACTOR,
        # A short run may end within its warm-up.
        min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0),
        solver.WARMUP_METHOD,
        solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, multiplier=multiplier, max_iter=solver.MAX_ITER)


def _multi_step(solver: CfgNode) -> ParamScheduler:
    steps = [step for step in solver.STEPS if step <= solver.MAX_ITER]
    if len(steps) != len(solver.STEPS):
        logging.getLogger(__name__).warning(
            "SOLVER.STEPS beyond SOLVER.MAX_ITER = %d are ignored.", solver.MAX_ITER
        )
    return MultiStepParamScheduler(
        values=[solver.GAMMA**k for k in range(len(steps) + 1)],
        milestones=steps,
        num_updates=solver.MAX_ITER,
    )


def _cosine(solver: CfgNode) -> ParamScheduler:
    end = solver.BASE_LR_END / solver.BASE_LR
    if not 0 <= end <= 1:
        raise ValueError("SOLVER.BASE_LR_END has to lie between 0 and SOLVER.BASE_LR.")
    return CosineParamScheduler(1, end)


def _fixed_gamma(solver: CfgNode) -> ParamScheduler:
    return StepWithFixedGammaParamScheduler(
        base_value=1.0,
        gamma=solver.GAMMA,
        num_decays=solver.NUM_DECAYS,
        num_updates=solver.MAX_ITER,
    )
