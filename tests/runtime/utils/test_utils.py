"""The small modules of `detectron2.utils`."""

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch

import d2ext  # noqa: F401
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import TORCH_VERSION, seed_all_rng
from detectron2.utils.file_io import PathManager
from detectron2.utils.memory import retry_if_cuda_oom
from detectron2.utils.registry import Registry, locate
from detectron2.utils.serialize import PicklableWrapper


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(1).item()


def test_a_seed_fixes_all_random_numbers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONHASHSEED", "0")  # restored afterwards
    seed_all_rng(7)
    first = draw()
    seed_all_rng(7)
    assert draw() == first
    seed_all_rng()
    assert draw() != first


def test_the_torch_version_is_a_pair():
    assert torch.__version__.startswith("{}.{}.".format(*TORCH_VERSION))


def test_dotted_names_are_located():
    assert locate("torch.nn.Conv2d") is torch.nn.Conv2d
    assert locate("collections.OrderedDict.fromkeys") is not None
    with pytest.raises((ImportError, Exception), match="no_such"):
        locate("torch.no_such_thing")


def test_a_registry_returns_registered_objects():
    registry = Registry("SHAPES")

    @registry.register()
    class Circle: ...

    assert registry.get("Circle") is Circle
    with pytest.raises(KeyError, match="Square"):
        registry.get("Square")


def test_the_wrapper_pickles_closures():
    offset = 3
    wrapped = pickle.loads(pickle.dumps(PicklableWrapper(lambda x: x + offset)))
    assert wrapped(4) == 7
    assert PicklableWrapper("text").upper() == "TEXT"


def test_out_of_memory_is_retried(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    calls = []

    @retry_if_cuda_oom
    def double(x: torch.Tensor) -> torch.Tensor:
        calls.append(x.device.type)
        if len(calls) < 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return 2 * x

    assert double(torch.ones(1)).item() == 2
    assert calls == ["cpu"] * 3


def test_errors_other_than_out_of_memory_propagate():
    @retry_if_cuda_oom
    def fail() -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        fail()


def test_the_path_manager_opens_local_files(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("text", encoding="utf-8")
    with PathManager.open(str(path)) as file:
        assert file.read() == "text"


def test_detectron2_addresses_resolve_to_urls(monkeypatch: pytest.MonkeyPatch):
    seen = []
    real = PathManager.get_local_path

    def local(path: str, *args: object, **kwargs: object) -> str:
        seen.append(path)
        return real(path, *args, **kwargs) if path.startswith("detectron2://") else path

    monkeypatch.setattr(PathManager, "get_local_path", local)
    PathManager.get_local_path("detectron2://ImageNetPretrained/MSRA/R-50.pkl")
    expected = "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl"
    assert seen[-1] == expected


def test_collect_env_info_lists_versions():
    text = collect_env_info()
    assert torch.__version__ in text
    assert "detectron2" in text
