"""Hooks, on a training loop that does nothing."""

import json
import logging
from pathlib import Path

import pytest
import torch
from fvcore.common.checkpoint import Checkpointer
from fvcore.common.param_scheduler import LinearParamScheduler
from torch import nn

import d2ext  # noqa: F401
from detectron2.engine import HookBase, TrainerBase, hooks
from detectron2.utils.events import EventWriter, JSONWriter


class Loop(TrainerBase):
    """A trainer that records the iteration as a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.BatchNorm2d(1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0)

    def run_step(self) -> None:
        self.storage.put_scalar("number", float(self.iter))
        self.optimizer.step()


def run(*registered: HookBase, start: int = 0, end: int = 10) -> Loop:
    loop = Loop()
    loop.register_hooks(registered)
    loop.train(start, end)
    return loop


def test_callbacks_get_the_trainer():
    seen = []
    run(
        hooks.CallbackHook(
            before_train=lambda t: seen.append(("start", t.iter)),
            after_step=lambda t: seen.append(("step", t.iter)),
        ),
        end=2,
    )
    assert seen == [("start", 0), ("step", 0), ("step", 1)]


def test_the_timer_skips_the_first_iterations_and_logs_the_speed(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("detectron2"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="detectron2"):
        loop = run(hooks.IterationTimer(warmup_iter=3))
    assert [i for _, i in loop.storage.history("time").values()] == list(range(2, 10))
    assert "Overall training speed: 8 iterations" in caplog.text
    assert "Total training time: 0:00:00" in caplog.text


class Counter(EventWriter):
    def __init__(self) -> None:
        self.writes, self.closed = 0, False

    def write(self) -> None:
        self.writes += 1

    def close(self) -> None:
        self.closed = True


def test_writers_write_every_period_and_at_the_end():
    writer = Counter()
    run(hooks.PeriodicWriter([writer], period=4))
    assert (writer.writes, writer.closed) == (2 + 1 + 1, True)  # the period, the end, after_train


def test_metrics_are_written_as_lines_of_json(tmp_path: Path):
    run(hooks.PeriodicWriter([JSONWriter(str(tmp_path / "metrics.json"))], period=5))
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [(line["iteration"], line["number"]) for line in lines] == [
        (4, 2.0),
        (9, 4.5),
    ]  # medians


def test_checkpoints_are_written_every_period_and_at_the_end(tmp_path: Path):
    hook = hooks.PeriodicCheckpointer(Checkpointer(nn.Linear(1, 1), str(tmp_path)), 4)
    run(hook)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "last_checkpoint", "model_0000003.pth", "model_0000007.pth", "model_final.pth",
    ]  # fmt: skip
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


class Scores:
    def __init__(self, *values: float) -> None:
        self.values = list(values)
        self.calls = 0

    def __call__(self) -> dict:
        self.calls += 1
        return {"bbox": {"AP": self.values.pop(0)}}


def test_evaluation_runs_every_period_and_once_at_the_end():
    scores = Scores(1.0, 2.0, 3.0)
    loop = run(hooks.EvalHook(5, scores), end=15)
    assert scores.calls == 3
    assert loop.storage.history("bbox/AP").values() == [(1.0, 4), (2.0, 9), (3.0, 15)]


def test_evaluation_at_the_end_can_be_left_out():
    scores = Scores(1.0)
    run(hooks.EvalHook(5, scores, eval_after_train=False))
    assert scores.calls == 1


def test_a_broken_run_is_not_evaluated():
    class Broken(HookBase):
        def after_step(self) -> None:
            raise ArithmeticError

    scores = Scores(1.0)
    with pytest.raises(ArithmeticError):
        run(hooks.EvalHook(0, scores), Broken())
    assert scores.calls == 0


def test_an_evaluation_must_return_numbers():
    with pytest.raises(ValueError, match="bbox/AP"):
        run(hooks.EvalHook(0, lambda: {"bbox": {"AP": "high"}}))


@pytest.mark.parametrize(("mode", "best"), [("max", 5.0), ("min", 1.0)])
def test_the_best_model_is_kept(tmp_path: Path, mode: str, best: float):
    model = nn.Linear(1, 1, bias=False)
    scores = Scores(3.0, 5.0, 1.0, 4.0)

    def evaluate() -> dict:
        result = scores()
        nn.init.constant_(model.weight, result["bbox"]["AP"])
        return result

    checkpointer = Checkpointer(model, str(tmp_path))
    run(
        hooks.EvalHook(2, evaluate),
        hooks.BestCheckpointer(2, checkpointer, "bbox/AP", mode),
        end=8,
    )
    saved = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert saved["model"]["weight"].item() == best


def test_without_its_metric_no_best_model_is_kept(tmp_path: Path):
    checkpointer = Checkpointer(nn.Linear(1, 1), str(tmp_path))
    run(hooks.BestCheckpointer(2, checkpointer, "bbox/AP", file_prefix="top"))
    assert list(tmp_path.iterdir()) == []


class TestLRScheduler:
    def test_a_torch_schedule_is_stepped_after_each_iteration(self):
        loop = Loop()
        schedule = torch.optim.lr_scheduler.StepLR(loop.optimizer, step_size=2, gamma=0.1)
        loop.register_hooks([hooks.LRScheduler(loop.optimizer, schedule)])
        loop.train(0, 4)
        rates = [rate for rate, _ in loop.storage.history("lr").values()]
        assert rates == pytest.approx([1, 1, 0.1, 0.1])

    def test_a_multiplier_scales_the_base_rate(self):
        loop = Loop()
        schedule = LinearParamScheduler(1.0, 0.0)
        loop.register_hooks([hooks.LRScheduler(loop.optimizer, schedule)])
        loop.train(0, 4)
        rates = [rate for rate, _ in loop.storage.history("lr").values()]
        assert rates == pytest.approx([1, 0.75, 0.5, 0.25])

    def test_the_state_of_the_hook_is_that_of_the_schedule(self):
        loop = Loop()
        schedule = torch.optim.lr_scheduler.StepLR(loop.optimizer, step_size=2)
        hook = hooks.LRScheduler(loop.optimizer, schedule)
        loop.register_hooks([hook])
        loop.train(0, 3)
        assert hook.state_dict()["last_epoch"] == 3
        hook.load_state_dict({**hook.state_dict(), "last_epoch": 9})
        assert schedule.last_epoch == 9

    def test_the_logged_rate_is_that_of_the_largest_group(self):
        a, b, c = (nn.Parameter(torch.zeros(1)) for _ in range(3))
        groups = [{"params": [a], "lr": 5.0}, {"params": [b, c], "lr": 1.0}]
        optimizer = torch.optim.SGD(groups)
        assert hooks.LRScheduler.get_best_param_group_id(optimizer) == 1

    def test_with_one_parameter_per_group_the_most_common_rate_is_logged(self):
        groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": r} for r in (5.0, 1.0, 1.0)]
        optimizer = torch.optim.SGD(groups)
        assert hooks.LRScheduler.get_best_param_group_id(optimizer) == 1


def test_precise_batch_norm_averages_the_statistics():
    model = nn.BatchNorm2d(1)
    data = [torch.full((2, 1, 1, 1), value) for value in (1.0, 3.0)]
    loop = Loop()
    loop.register_hooks([hooks.PreciseBN(0, model, data, 2)])
    loop.train(0, 1)
    assert model.running_mean.item() == pytest.approx(2)


def test_a_profile_is_written_for_the_iterations_asked_for(tmp_path: Path):
    hook = hooks.TorchProfiler(
        lambda trainer: trainer.iter == 2, str(tmp_path), save_tensorboard=False
    )
    run(hook, end=4)
    trace = json.loads((tmp_path / "profiler-trace-iter2.json").read_text())
    assert trace["traceEvents"]
    assert len(list(tmp_path.iterdir())) == 1


def test_memory_statistics_are_silent_without_a_gpu():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    loop = run(hooks.TorchMemoryStats(period=1))
    assert loop.iter == 10
