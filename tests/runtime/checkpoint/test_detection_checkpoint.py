"""`detectron2.checkpoint.DetectionCheckpointer`: saving, and loading of all formats."""

import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import d2ext  # noqa: F401
from d2ext._detectron2 import provider
from detectron2.checkpoint import DetectionCheckpointer, PeriodicCheckpointer

only_bundled = pytest.mark.skipif(provider() != "bundled", reason="the bundled runtime's promise")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 1, bias=False)
        self.linear = nn.Linear(2, 2)
        self.register_buffer("pixel_mean", torch.zeros(3))


class Trained:
    """A checkpointable."""

    def __init__(self) -> None:
        self.state = {"x": 1}

    def state_dict(self) -> dict:
        return self.state

    def load_state_dict(self, state: dict) -> None:
        self.state = state


def arrays(value: float) -> dict[str, np.ndarray]:
    return {"linear.weight": np.full((2, 2), value, dtype=np.float32)}


def write_pickle(path: Path, content: object, protocol: int = 2) -> str:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return str(path)


def weight_after_loading(path: str) -> float:
    model = Model()
    DetectionCheckpointer(model).load(path)
    return model.linear.weight[0, 0].item()


def test_model_and_checkpointables_are_saved_and_loaded(tmp_path: Path):
    model, other = Model(), Trained()
    checkpointer = DetectionCheckpointer(model, str(tmp_path), other=other)
    other.state = {"x": 7}
    checkpointer.save("first", iteration=3)
    assert sorted(os.listdir(tmp_path)) == ["first.pth", "last_checkpoint"]

    fresh, state = Model(), Trained()
    loader = DetectionCheckpointer(fresh, str(tmp_path), other=state)
    assert loader.has_checkpoint()
    assert loader.resume_or_load("", resume=True) == {"iteration": 3}
    assert state.state == {"x": 7}
    for name, value in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)


def test_only_weights_are_loaded_without_resuming(tmp_path: Path):
    DetectionCheckpointer(Model(), str(tmp_path), other=Trained()).save("first")
    state = Trained()
    state.state = {}
    loader = DetectionCheckpointer(Model(), str(tmp_path), other=state)
    loader.resume_or_load(str(tmp_path / "first.pth"), resume=False)
    assert state.state == {}


def test_save_to_disk_false_saves_nothing(tmp_path: Path):
    DetectionCheckpointer(Model(), str(tmp_path), save_to_disk=False).save("first")
    DetectionCheckpointer(Model()).save("first")
    assert os.listdir(tmp_path) == []


def test_checkpoints_are_saved_periodically(tmp_path: Path):
    checkpointer = DetectionCheckpointer(Model(), str(tmp_path))
    periodic = PeriodicCheckpointer(checkpointer, period=2, max_iter=5)
    for iteration in range(5):
        periodic.step(iteration)
    names = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert names == ["model_0000001.pth", "model_0000003.pth", "model_final.pth"]


@only_bundled
def test_a_failed_save_keeps_the_previous_file(tmp_path: Path):
    checkpointer = DetectionCheckpointer(Model(), str(tmp_path))
    checkpointer.save("first", iteration=1)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        checkpointer.save("first", iteration=lambda: 2)
    assert checkpointer.load(str(tmp_path / "first.pth")) == {"iteration": 1}
    assert sorted(os.listdir(tmp_path)) == ["first.pth", "last_checkpoint"]


def test_a_file_of_weights_only_is_loaded(tmp_path: Path):
    torch.save({"linear.weight": torch.full((2, 2), 4.0)}, tmp_path / "raw.pth")
    assert weight_after_loading(str(tmp_path / "raw.pth")) == 4


def test_a_weight_of_another_shape_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    torch.save({"model": {"linear.weight": torch.ones(3, 2)}}, tmp_path / "other.pth")
    with caplog.at_level(logging.WARNING):
        weight_after_loading(str(tmp_path / "other.pth"))
    assert "linear.weight" in caplog.text
    assert "(3, 2)" in caplog.text


def test_the_pixel_mean_may_be_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    torch.save({"model": {"linear.weight": torch.ones(2, 2)}}, tmp_path / "old.pth")
    with caplog.at_level(logging.WARNING):
        weight_after_loading(str(tmp_path / "old.pth"))
    assert "stem.weight" in caplog.text
    assert "pixel_mean" not in caplog.text


def test_a_model_zoo_pickle_is_loaded(tmp_path: Path):
    content = {"model": arrays(4), "__author__": "somebody"}
    assert weight_after_loading(write_pickle(tmp_path / "zoo.pkl", content)) == 4


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_of_every_protocol_are_loaded(tmp_path: Path, protocol: int):
    weight = np.asfortranarray(np.array([[6.0, 7], [8, 9]], dtype=np.float32))
    content = {"model": {"linear.weight": weight}, "__author__": "somebody"}
    model = Model()
    DetectionCheckpointer(model).load(write_pickle(tmp_path / "w.pkl", content, protocol))
    assert model.linear.weight.tolist() == [[6, 7], [8, 9]]


def test_matching_heuristics_match_names_by_suffix(tmp_path: Path):
    weights = {"linear.weight": np.full((2, 2), 5, dtype=np.float32)}
    content = {"model": weights, "__author__": "somebody", "matching_heuristics": True}
    model = nn.ModuleDict({"backbone": Model()})
    DetectionCheckpointer(model).load(write_pickle(tmp_path / "heuristic.pkl", content))
    assert (model["backbone"].linear.weight == 5).all()


@pytest.mark.parametrize("wrap", [lambda weights: weights, lambda weights: {"blobs": weights}])
def test_a_caffe2_pickle_is_loaded(tmp_path: Path, wrap: object):
    weights = {"pred_w": arrays(6)["linear.weight"], "pred_w_momentum": np.zeros(1)}
    assert weight_after_loading(write_pickle(tmp_path / "c2.pkl", wrap(weights))) == 6


class Dangerous:
    def __reduce__(self) -> tuple:
        return os.mkdir, (os.environ["D2EXT_TEST_MARKER"],)


@only_bundled
@pytest.mark.parametrize("name", ["bad.pkl", "bad.pth"])
def test_a_file_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    marker = tmp_path / "ran"
    monkeypatch.setenv("D2EXT_TEST_MARKER", str(marker))
    content = {"model": {"linear.weight": Dangerous()}, "__author__": "somebody"}
    if name.endswith(".pkl"):
        write_pickle(tmp_path / name, content)
    else:
        torch.save(content, tmp_path / name)
    with pytest.raises(ValueError, match=name):
        weight_after_loading(str(tmp_path / name))
    assert not marker.exists()


@only_bundled
def test_an_error_names_a_truncated_pickle(tmp_path: Path):
    path = Path(write_pickle(tmp_path / "cut.pkl", {"model": arrays(1), "__author__": "x"}))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"cut\.pkl"):
        weight_after_loading(str(path))


def test_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises((FileNotFoundError, AssertionError), match="none"):
        weight_after_loading(str(tmp_path / "none.pth"))
