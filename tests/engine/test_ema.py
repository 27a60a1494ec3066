import pytest
import torch
from torch import nn

from d2ext.engine.ema import WeightAverage


def set_all(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)


def test_the_decay_grows_from_a_tenth_to_its_limit() -> None:
    model = nn.Linear(1, 1)
    set_all(model, 0.0)
    average = WeightAverage(model, decay=0.15)
    set_all(model, 1.0)
    average.update()  # 0.1 of the past
    assert average.weights["bias"].item() == pytest.approx(0.9)
    average.update()  # 2 / 11 would be 0.18: the limit holds
    assert average.weights["bias"].item() == pytest.approx(1 - 0.15 * 0.1)


def test_statistics_are_averaged_and_counts_copied() -> None:
    model = nn.BatchNorm1d(1)
    average = WeightAverage(model, decay=0.5)
    set_all(model, 10.0)
    average.update()
    assert average.weights["num_batches_tracked"].item() == 10
    assert average.weights["running_mean"].item() == pytest.approx(9.0)


def test_the_model_has_the_average_only_within_the_context() -> None:
    model = nn.Linear(1, 1)
    set_all(model, 1.0)
    average = WeightAverage(model, decay=0.9)
    set_all(model, 2.0)
    with average.in_model():
        assert model.bias.item() == 1.0
    assert model.bias.item() == 2.0
    assert average.weights["bias"].item() == 1.0


def test_a_restored_average_continues_identically() -> None:
    model = nn.Linear(1, 1)
    first, second = WeightAverage(model, decay=0.9), WeightAverage(model, decay=0.9)
    set_all(model, 3.0)
    first.update()
    second.load_state_dict(first.state_dict())
    set_all(model, 5.0)
    first.update()
    second.update()
    assert torch.equal(first.weights["weight"], second.weights["weight"])


def test_restart_resets_to_the_models_weights() -> None:
    model = nn.Linear(1, 1)
    average = WeightAverage(model, decay=0.9)
    set_all(model, 3.0)
    average.restart()
    assert (average.updates, average.weights["bias"].item()) == (0, 3.0)
