"""Schedules of `detectron2.solver`: hand-computed learning rates."""

import math
from collections.abc import Callable

import pytest
import torch
from fvcore.common.param_scheduler import CosineParamScheduler
from torch.optim.lr_scheduler import LRScheduler

import d2ext  # noqa: F401
from detectron2.config import get_cfg
from detectron2.solver import (
    LRMultiplier,
    WarmupCosineLR,
    WarmupMultiStepLR,
    build_lr_scheduler,
)


def optimizer(lr: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(build: Callable[[torch.optim.Optimizer], LRScheduler], count: int) -> list[float]:
    some = optimizer()
    scheduler = build(some)
    found = []
    for _ in range(count):
        found.append(some.param_groups[0]["lr"])
        some.step()
        scheduler.step()
    return found


def rates_of(*overrides: object) -> list[float]:
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS = 10, (6, 8), 4
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        cfg.SOLVER[key] = value
    return rates(lambda some: build_lr_scheduler(cfg, some), 10)


LINEAR = [0.001 + 0.999 * k / 4 for k in range(4)]


def test_multi_step_schedule_after_a_linear_warm_up():
    assert rates_of() == pytest.approx([*LINEAR, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_constant_warm_up_stays_at_its_factor():
    assert rates_of("WARMUP_METHOD", "constant")[:5] == pytest.approx([0.001] * 4 + [1])


def test_a_schedule_without_warm_up_starts_at_the_base_rate():
    assert rates_of("WARMUP_ITERS", 0) == pytest.approx([1] * 6 + [0.1] * 2 + [0.01] * 2)


def test_a_warm_up_ends_at_the_value_of_the_cosine():
    found = rates_of("LR_SCHEDULER_NAME", "WarmupCosineLR")
    cosine = [0.5 * (1 + math.cos(math.pi * k / 10)) for k in range(10)]
    warmup = [0.001 + (cosine[4] - 0.001) * k / 4 for k in range(4)]
    assert found == pytest.approx(warmup + cosine[4:])


def test_a_cosine_ends_at_the_rate_given():
    found = rates_of(
        *("LR_SCHEDULER_NAME", "WarmupCosineLR", "WARMUP_ITERS", 0),
        *("BASE_LR", 0.1, "BASE_LR_END", 0.02),
    )
    assert found[5] == pytest.approx(0.6)
    assert found == pytest.approx([0.2 + 0.4 * (1 + math.cos(math.pi * k / 10)) for k in range(10)])


def test_a_rescaled_cosine_starts_at_its_maximum_after_the_warm_up():
    found = rates_of("LR_SCHEDULER_NAME", "WarmupCosineLR", "RESCALE_INTERVAL", True)
    cosine = [0.5 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert found == pytest.approx(LINEAR + cosine)


def test_milestones_beyond_the_end_are_ignored():
    assert rates_of("STEPS", (6, 80)) == pytest.approx([*LINEAR, 1, 1] + [0.1] * 4)


@pytest.mark.parametrize(
    "override", [("LR_SCHEDULER_NAME", "None such"), ("WARMUP_METHOD", "none such")]
)
def test_unknown_names_are_errors(override: tuple[str, str]):
    with pytest.raises(ValueError, match=r"[Uu]nknown"):
        rates_of(*override)


def test_every_group_is_multiplied():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [parameters[0]]}, {"params": [parameters[1]], "lr": 0.5}]
    some = torch.optim.SGD(groups, lr=2.0)
    scheduler = LRMultiplier(some, CosineParamScheduler(1, 0), max_iter=2)
    some.step()
    scheduler.step()
    assert [group["lr"] for group in some.param_groups] == pytest.approx([1.0, 0.25])


def test_the_state_is_the_iteration_and_the_initial_rates():
    scheduler = LRMultiplier(optimizer(2.0), CosineParamScheduler(1, 0), max_iter=4)
    state = scheduler.state_dict()
    assert state == {"base_lrs": [2.0], "last_epoch": 0}
    scheduler.load_state_dict({"base_lrs": [2.0], "last_epoch": 1})
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([1.0])


def test_a_multiplier_has_to_be_a_param_scheduler():
    with pytest.raises(ValueError, match="ParamScheduler"):
        LRMultiplier(optimizer(), lambda where: 1.0, max_iter=2)


def test_warmup_multi_step_and_cosine_schedules_by_hand():
    steps = rates(lambda some: WarmupMultiStepLR(some, [3, 5], 0.1, 0.5, 2), 6)
    assert steps == pytest.approx([0.5, 0.75, 1, 0.1, 0.1, 0.01])
    cosine = rates(lambda some: WarmupCosineLR(some, 4, 0.5, 2, "constant"), 4)
    decay = [0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4)]
    assert cosine == pytest.approx([0.5, 0.5 * decay[1], decay[2], decay[3]])
    with pytest.raises(ValueError, match="Milestones"):
        WarmupMultiStepLR(optimizer(), [5, 3])
