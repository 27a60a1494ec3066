import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from d2ext.engine.train_step import TrainStep
from d2ext.errors import ConfigError, UserError
from detectron2.utils.events import EventStorage

Batch = list[dict[str, Any]]


class Square(nn.Module):
    """Loss (w x - 1)^2, and a second term that may be anything."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        x = torch.stack([item["x"] for item in batch])
        odd = torch.stack([item["odd"] for item in batch]).mean()
        return {"loss_fit": (self.w * x - 1).square().mean(), "loss_odd": odd + 0 * self.w.sum()}


def item(x: float, odd: float = 0.0) -> dict[str, Any]:
    return {"x": torch.tensor(x), "odd": torch.tensor(odd), "file_name": f"image_{x:g}.png"}


def step(batches: list[Batch], **options: Any) -> tuple[Square, EventStorage]:
    model = Square().train()
    trainer = TrainStep(model, batches, torch.optim.SGD(model.parameters(), lr=0.1), **options)
    trainer.iter = 7
    with EventStorage(7) as storage:
        trainer.run_step()
    return model, storage


def test_two_batches_accumulated_step_like_one_of_both() -> None:
    one, one_storage = step([[item(1.0), item(2.0), item(3.0), item(5.0)]])
    two, two_storage = step([[item(1.0), item(2.0)], [item(3.0), item(5.0)]], accumulate=2)
    torch.testing.assert_close(two.w, one.w)
    assert two_storage.latest()["total_loss"] == one_storage.latest()["total_loss"]


def test_metrics_have_the_names_of_detectron2() -> None:
    _, storage = step([[item(2.0, odd=0.5)]])
    latest = storage.latest()
    assert latest.keys() == {"loss_fit", "loss_odd", "total_loss", "data_time"}
    assert latest["total_loss"] == (1.5, 7)


def test_gradients_are_clipped_and_their_norm_is_logged() -> None:
    def clip(parameters: list[nn.Parameter]) -> Tensor:
        return nn.utils.clip_grad_norm_(parameters, 1.0)

    model, storage = step([[item(2.0)]], clip=clip)
    assert model.w.item() == pytest.approx(0.1, abs=1e-5)
    assert storage.latest()["grad_norm"][0] == pytest.approx(4.0)
    assert storage.latest()["total_loss"][0] == 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_step(value: float) -> None:
    model = Square().train()
    batches = [[item(1.0), item(2.0)], [item(3.0), item(4.0, odd=value)]]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = TrainStep(model, batches, optimizer, accumulate=2)
    trainer.iter = 7
    with EventStorage(7), pytest.raises(UserError) as caught:
        trainer.run_step()
    message = str(caught.value)
    assert f"iteration 7: loss_odd is {value}" in message
    assert "finite: loss_fit 1" in message
    assert "image_3.png, image_4.png" in message
    assert "image_1.png" not in message
    assert model.w.item() == 0.0


def test_autocast_reaches_the_model() -> None:
    seen: list[torch.dtype] = []

    class Probe(Square):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            seen.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
            return super().forward(batch)

    model = Probe().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = TrainStep(model, [[item(2.0)]], optimizer, dtype=torch.bfloat16)
    trainer.iter = 0
    with EventStorage():
        trainer.run_step()
    assert seen == [torch.bfloat16]
    assert model.w.dtype == torch.float32


def test_data_are_read_from_the_first_step_on_only() -> None:
    reads: list[int] = []

    class Loader:
        def __iter__(self) -> Iterator[Batch]:
            reads.append(1)
            yield [item(1.0)]

    model = Square().train()
    TrainStep(model, Loader(), torch.optim.SGD(model.parameters(), lr=0.1))
    assert not reads


def test_random_numbers_of_a_step_follow_from_the_seed() -> None:
    class Noise(Square):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            return {"loss": (self.w - torch.rand(1)).square().sum()}

    def weight(seed: int, draws: int) -> float:
        model = Noise().train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trainer = TrainStep(model, [[item(1.0)]], optimizer, seed=seed)
        trainer.iter = 3
        torch.rand(draws)
        with EventStorage():
            trainer.run_step()
        return model.w.item()

    assert weight(1, draws=1) == weight(1, draws=5)
    assert weight(1, draws=1) != weight(2, draws=1)


class SmallMemory(Square):
    """Runs out of memory with more than `room` images at once."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.sizes = room, []

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(batch)


def train_in(room: int, *, steps: int = 1) -> SmallMemory:
    images = [item(1.0), item(2.0), item(3.0), item(5.0)]
    model = SmallMemory(room).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = TrainStep(model, [images] * steps, optimizer)
    with EventStorage(0):
        for trainer.iter in range(steps):
            trainer.run_step()
    return model


def test_out_of_memory_steps_down_with_one_line_and_gives_the_same_step(caplog) -> None:
    whole = train_in(4, steps=2)
    parted = train_in(2, steps=2)
    torch.testing.assert_close(parted.w, whole.w)
    assert parted.sizes == [4, 2, 2, 2, 2]  # the second step begins with what fits
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("iteration 0: out of memory: each batch is computed in 2 parts")
    assert "SOLVER.IMS_PER_BATCH 2" in line


def test_out_of_memory_in_the_middle_of_a_step_begins_it_again() -> None:
    whole, parted = train_in(4), train_in(1)
    torch.testing.assert_close(parted.w, whole.w)
    assert parted.sizes == [4, 2, 1, 1, 1, 1]


def test_an_image_too_large_for_the_memory_is_an_error_with_remedies() -> None:
    with pytest.raises(UserError, match=r"out of memory with 1 images .*USE_CHECKPOINT True"):
        train_in(0)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Spare(Square):
    """A parameter that no loss depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)


@pytest.mark.usefixtures("process_group")
def test_parameters_that_no_loss_reads_are_named_unless_they_are_looked_for() -> None:
    def trainer(find_unused: bool) -> TrainStep:
        model = DistributedDataParallel(Spare().train(), find_unused_parameters=find_unused)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        found = TrainStep(model, [[item(1.0)]] * 3, optimizer)
        found.iter = 0
        return found

    with EventStorage(0):
        with pytest.raises(ConfigError, match=r"spare\.weight, spare\.bias.*FIND_UNUSED"):
            trainer(False).run_step()
        looking = trainer(True)
        for _ in range(3):  # DistributedDataParallel stumbles at the second step
            looking.run_step()
        assert looking.model.module.w.item() > 0


def test_closing_ends_the_iteration_over_the_data() -> None:
    ended: list[bool] = []

    class Batches:
        def __iter__(self) -> Iterator[Batch]:
            try:
                while True:
                    yield [item(1.0)]
            finally:
                ended.append(True)

    model = Square().train()
    trainer = TrainStep(model, Batches(), torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.iter = 0
    with EventStorage(0):
        trainer.run_step()
        assert not ended
        trainer.close()
    assert ended
