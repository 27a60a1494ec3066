import pytest
import torch

from d2ext.engine.devices import choose_device, wrap_model
from d2ext.errors import ConfigError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.usefixtures("gpus")
def test_without_a_gpu_a_line_says_that_the_cpu_is_used() -> None:
    assert choose_device("cuda", num_gpus=4) == ("cpu", "no GPU found: the CPU is used")


@pytest.mark.parametrize("gpus", [2], indirect=True)
@pytest.mark.usefixtures("gpus")
def test_gpus_are_used_where_there_are_enough() -> None:
    assert choose_device("cuda", num_gpus=2) == ("cuda", "")
    assert choose_device("cpu", num_gpus=4) == ("cpu", "")
    with pytest.raises(ConfigError, match="--num-gpus 4: this machine has 2"):
        choose_device("cuda", num_gpus=4)


def test_one_process_trains_the_model_itself() -> None:
    model = torch.nn.Linear(1, 1)
    assert wrap_model(model) is model
