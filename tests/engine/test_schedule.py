import pytest
import torch

from d2ext.config import get_cfg
from d2ext.engine import schedule
from d2ext.engine.schedule import resolve_schedule
from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler


@pytest.fixture
def cfg(monkeypatch: pytest.MonkeyPatch) -> CfgNode:
    monkeypatch.setattr(schedule, "iterations_per_epoch", lambda cfg: 50)
    cfg = get_cfg()
    solver = cfg.SOLVER
    solver.BASE_LR, solver.IMS_PER_BATCH, solver.MAX_ITER = 0.08, 16, 1000
    solver.STEPS, solver.WARMUP_ITERS = (500, 750), 100
    return cfg


def test_numbers_stay_as_written_by_default(cfg: CfgNode) -> None:
    before = cfg.clone()
    assert resolve_schedule(cfg) == []
    assert cfg == before


def test_epochs_set_the_length_and_steps_keep_their_share(cfg: CfgNode) -> None:
    cfg.SOLVER.MAX_EPOCHS = 12
    (line,) = resolve_schedule(cfg)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (600, (300, 450))
    assert (cfg.SOLVER.MAX_EPOCHS, cfg.SOLVER.WARMUP_ITERS) == (0, 100)
    assert "12 epochs: MAX_ITER 600" in line


def test_accumulation_shortens_an_epoch(cfg: CfgNode) -> None:
    cfg.SOLVER.MAX_EPOCHS, cfg.SOLVER.ACCUMULATE = 1, 4
    resolve_schedule(cfg)
    assert cfg.SOLVER.MAX_ITER == 13


def test_the_warm_up_fits_into_few_epochs(cfg: CfgNode) -> None:
    cfg.SOLVER.MAX_EPOCHS = 4
    assert "WARMUP_ITERS 50" in resolve_schedule(cfg)[-1]
    assert cfg.SOLVER.WARMUP_ITERS == 50


def test_rate_scales_with_the_batch_size_and_iterations_inversely(
    cfg: CfgNode,
) -> None:
    cfg.SOLVER.REFERENCE_BATCH_SIZE, cfg.SOLVER.IMS_PER_BATCH = 16, 2
    cfg.SOLVER.ACCUMULATE, cfg.TEST.EVAL_PERIOD = 2, 200
    (line,) = resolve_schedule(cfg)
    rate: float = cfg.SOLVER.BASE_LR
    assert rate == pytest.approx(0.02)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (4000, (2000, 3000))
    assert (cfg.SOLVER.WARMUP_ITERS, cfg.TEST.EVAL_PERIOD) == (400, 800)
    assert cfg.SOLVER.REFERENCE_BATCH_SIZE == 0
    assert "batch 16 used at batch 4: BASE_LR 0.02" in line


def test_the_rate_of_adamw_scales_by_the_square_root(cfg: CfgNode) -> None:
    cfg.SOLVER.OPTIMIZER = "ADAMW"
    cfg.SOLVER.REFERENCE_BATCH_SIZE, cfg.SOLVER.IMS_PER_BATCH = 16, 4
    resolve_schedule(cfg)
    assert pytest.approx(0.04) == cfg.SOLVER.BASE_LR
    assert cfg.SOLVER.MAX_ITER == 4000


def test_iterations_of_the_command_are_for_its_batch(cfg: CfgNode) -> None:
    cfg.SOLVER.REFERENCE_BATCH_SIZE, cfg.SOLVER.IMS_PER_BATCH = 16, 4
    cfg.TEST.EVAL_PERIOD = 200
    resolve_schedule(cfg, ["SOLVER.MAX_ITER", "TEST.EVAL_PERIOD"])
    assert pytest.approx(0.02) == cfg.SOLVER.BASE_LR
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (1000, (500, 750))
    assert (cfg.TEST.EVAL_PERIOD, cfg.SOLVER.WARMUP_ITERS) == (200, 400)


def test_resolving_twice_changes_nothing_more(cfg: CfgNode) -> None:
    cfg.SOLVER.REFERENCE_BATCH_SIZE, cfg.SOLVER.MAX_EPOCHS = 32, 12
    resolve_schedule(cfg)
    before = cfg.clone()
    assert resolve_schedule(cfg) == []
    assert cfg == before


@pytest.mark.parametrize(
    ("name", "rates"),
    [("WarmupMultiStepLR", [1.0, 0.1, 0.01]), ("WarmupCosineLR", [1.0, 0.5, 0.0])],
)
def test_the_rate_follows_steps_or_a_cosine(cfg: CfgNode, name: str, rates: list[float]) -> None:
    cfg.SOLVER.LR_SCHEDULER_NAME, cfg.SOLVER.WARMUP_ITERS = name, 0
    cfg.SOLVER.MAX_EPOCHS = 2
    resolve_schedule(cfg)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build_lr_scheduler(cfg, optimizer)
    found = []
    for _ in range(100):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert [found[0], found[50], found[99]] == pytest.approx(rates, abs=1e-3)
