"""Training loops and the calls of their hooks."""

import math
from itertools import repeat

import pytest
import torch
from torch import nn

import d2ext  # noqa: F401
from d2ext._detectron2 import provider
from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, TrainerBase
from detectron2.utils.events import EventStorage, get_event_storage

PARTS = [
    "before_train", "before_step", "after_backward", "after_step", "after_train",
]  # fmt: skip


class Recorder(HookBase):
    """A hook that records every call as "<part><iteration>"."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        for part in PARTS:
            setattr(self, part, lambda part=part: self.calls.append(f"{part} {self.trainer.iter}"))


class Line(nn.Module):
    """A model with loss = w * x, with w = 1 initially."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss_line": (self.w * x).sum(), "loss_zero": 0 * self.w.sum()}


def trainer(value: float = 1.0, **options) -> SimpleTrainer:
    model, data = Line(), repeat(torch.tensor([value]))
    return SimpleTrainer(model, data, torch.optim.SGD(model.parameters(), lr=0.1), **options)


def test_hooks_are_called_in_order():
    loop, hook = trainer(), Recorder()
    loop.register_hooks([hook, None])
    loop.train(3, 5)
    assert hook.calls == [
        "before_train 3",
        *(f"{part} {i}" for i in (3, 4) for part in PARTS[1:4]),
        "after_train 5",
    ]


def test_a_run_that_fails_ends_its_hooks_at_the_iteration_that_failed():
    class Failing(TrainerBase):
        def run_step(self) -> None:
            raise KeyError("broken")

    loop, hook = Failing(), Recorder()
    loop.register_hooks([hook])
    with pytest.raises(KeyError):
        loop.train(0, 5)
    assert hook.calls[-1] == "after_train 0"


def test_training_steps_descend_the_gradient():
    loop = trainer()
    loop.train(0, 3)
    assert loop.model.w.item() == pytest.approx(1 - 3 * 0.1)


@pytest.mark.parametrize(
    "options", [{}, {"zero_grad_before_forward": True}, {"async_write_metrics": True}]
)
def test_losses_and_their_sum_are_written(options: dict):
    loop = trainer(**options)
    loop.train(0, 2)
    latest = loop.storage.latest()
    assert latest["loss_line"] == (pytest.approx(0.9), 1)
    assert latest["total_loss"] == (pytest.approx(0.9), 1)
    assert {"loss_zero", "data_time"} <= set(latest)
    assert loop.model.w.item() == pytest.approx(0.8)


def test_metrics_are_gathered_every_period_only():
    loop = trainer(gather_metric_period=3)
    loop.train(0, 8)
    history = loop.storage.history("total_loss").values()
    assert [iteration for _, iteration in history] == [2, 5]


def test_a_model_may_return_a_single_loss():
    class Single(Line):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.w * x).sum()

    model = Single()
    loop = SimpleTrainer(model, repeat(torch.ones(1)), torch.optim.SGD(model.parameters(), lr=0.1))
    loop.train(0, 1)
    assert loop.storage.latest()["total_loss"][0] == pytest.approx(1)


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named():
    loop = trainer(math.inf)
    with pytest.raises(FloatingPointError, match=r"iteration=0(.|\n)*loss_line"):
        loop.train(0, 5)
    assert loop.iter == 0


@pytest.mark.skipif(provider() == "official", reason="the official one trains on")
def test_a_loss_that_is_not_finite_stops_a_run_with_asynchronous_metrics():
    loop = trainer(math.inf, async_write_metrics=True)
    with pytest.raises(FloatingPointError):
        loop.train(0, 1000)


def test_metrics_can_be_written_under_a_prefix():
    with EventStorage() as storage:
        SimpleTrainer.write_metrics({"a": torch.tensor(2.0)}, 0.5, 7, prefix="val_")
    assert storage.latest()["val_total_loss"] == (2.0, 7)
    assert storage.latest()["data_time"] == (0.5, 7)


def test_a_model_in_eval_mode_is_an_error():
    loop = trainer()
    loop.model.eval()
    with pytest.raises((AssertionError, RuntimeError), match="eval mode"):
        loop.train(0, 1)


def test_a_new_data_loader_starts_from_its_first_batch():
    loop = trainer()
    loop.train(0, 1)
    loop.reset_data_loader(lambda: [torch.full((1,), 4.0)])
    with EventStorage():
        loop.run_step()
    assert loop.model.w.item() == pytest.approx(0.9 - 0.4)


class Counting(HookBase):
    count = 0

    def after_step(self) -> None:
        self.count += 1
        get_event_storage().put_scalar("count", self.count)

    def state_dict(self) -> dict:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict) -> None:
        self.count = state_dict["count"]


def test_the_state_holds_iteration_optimizer_and_hooks():
    first = trainer()
    first.register_hooks([Counting()])
    first.train(0, 4)
    state = first.state_dict()
    assert state["iteration"] == 4
    assert state["hooks"] == {"Counting": {"count": 4}}
    second, hook = trainer(), Counting()
    second.optimizer.param_groups[0]["lr"] = 7.0
    second.register_hooks([hook])
    second.load_state_dict(state)
    assert (second.iter, hook.count) == (4, 4)
    assert second.optimizer.param_groups[0]["lr"] == 0.1


def test_the_state_of_a_missing_hook_is_skipped():
    first = trainer()
    first.register_hooks([Counting()])
    first.train(0, 1)
    second = trainer()
    second.load_state_dict(first.state_dict())
    assert second.iter == 1


def test_only_hooks_are_registered():
    with pytest.raises((AssertionError, TypeError)):
        trainer().register_hooks([object()])


@pytest.mark.skipif(provider() == "official", reason="the official one needs CUDA")
@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_mixed_precision_on_a_cpu_is_bfloat16(precision: torch.dtype):
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = model

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            out = self.linear(x)
            assert out.dtype == torch.bfloat16  # float16 would be too slow
            return {"loss": out.float().sum()}

    data = repeat(torch.ones(1, 2))
    loop = AMPTrainer(
        Loss(),
        data,
        torch.optim.SGD(model.parameters(), lr=0.25),
        precision=precision,
        grad_scaler=torch.amp.GradScaler("cpu", init_scale=1024.0),
        log_grad_scaler=True,
    )
    loop.train(0, 2)
    assert model.weight.tolist() == [[0.5, 0.5]]
    assert loop.storage.latest()["[metric]grad_scaler"][0] == 1024
    assert loop.state_dict()["grad_scaler"]["scale"] == 1024
