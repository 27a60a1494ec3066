import pytest
import torch

from d2ext.engine.config_choice import load_trained_config
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


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("wanted", ["cuda", "cuda:1"])
def test_a_gpu_that_someone_asks_for_is_not_replaced_by_the_cpu(wanted: str) -> None:
    with pytest.raises(ConfigError, match=rf"--device\) {wanted}: .*finds no such device"):
        load_trained_config("configs/dyhead_regnetx200m.yaml", ["MODEL.DEVICE", wanted])


def test_a_kind_of_device_that_the_machine_lacks_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"mps: .*give cpu"):
        choose_device("mps")


def test_one_process_trains_the_model_itself() -> None:
    model = torch.nn.Linear(1, 1)
    assert wrap_model(model) is model
