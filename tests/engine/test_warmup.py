import pytest
import torch

from d2ext.config import get_cfg
from d2ext.engine.warmup import build_lr_scheduler
from d2ext.errors import ConfigError
from detectron2.solver import build_lr_scheduler as detectron2_schedule


def config(**options):
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.STEPS = 100, 20, (60,)
    cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA = 2.0, 0.1
    cfg.merge_from_list([word for k, v in options.items() for word in (f"SOLVER.{k}", v)])
    return cfg


def rates(cfg, build=build_lr_scheduler) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    scheduler = build(cfg, optimizer)
    found = []
    for _ in range(cfg.SOLVER.MAX_ITER):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_rate_rises_by_a_power_of_the_iteration():
    found = rates(config(WARMUP_METHOD="power"))
    expected = [2.0 * (n / 20) ** 4 for n in range(20)] + [2.0] * 40 + [0.2] * 40
    assert found == pytest.approx(expected)


def test_a_cosine_continues_after_the_warm_up():
    options = {"LR_SCHEDULER_NAME": "WarmupCosineLR"}
    found = rates(config(WARMUP_METHOD="power", WARMUP_POWER=1.0, **options))
    plain = rates(config(WARMUP_ITERS=0, **options))
    assert found[20:] == pytest.approx(plain[20:])
    assert found[10] == pytest.approx(plain[10] / 2)


def test_no_warm_up_starts_at_the_full_rate():
    assert rates(config(WARMUP_METHOD="power", WARMUP_ITERS=0))[0] == 2.0


def test_other_warm_ups_are_detectron2s():
    assert rates(config()) == rates(config(), detectron2_schedule)


def test_a_schedule_without_power_warm_up_is_refused():
    cfg = config(WARMUP_METHOD="power", LR_SCHEDULER_NAME="WarmupStepWithFixedGammaLR")
    with pytest.raises(ConfigError, match="WarmupStepWithFixedGammaLR"):
        rates(cfg)


@pytest.mark.parametrize("method", ["linear", "power"])
def test_the_polynomial_falls_to_zero_after_its_warm_up(method):
    found = rates(config(LR_SCHEDULER_NAME="WarmupPolyLR", WARMUP_METHOD=method))
    assert found[20:] == pytest.approx([2.0 * (1 - n / 100) ** 0.9 for n in range(20, 100)])
    assert found[0] < found[10] < found[19]
