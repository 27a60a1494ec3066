import os
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from d2ext.checkpoint.file_io import (
    last_checkpoint,
    read_checkpoint,
    read_metadata,
    resumable,
    write_checkpoint,
)
from d2ext.errors import OutputError, WeightsError

WEIGHTS = {"model": {"a": torch.arange(3.0)}, "thing_classes": ["dot"], "config": "SEED: 1\n"}


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files above 100 kB cannot be written, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


class Evil:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("made_by_a_pickle",)


def save(path: Path, age: int) -> Path:
    write_checkpoint(path, WEIGHTS)
    os.utime(path, ns=(age, age))
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.pth", WEIGHTS)
    assert torch.equal(read_checkpoint(tmp_path / "a.pth")["model"]["a"], torch.arange(3.0))
    assert read_metadata(tmp_path / "a.pth") == {"thing_classes": ["dot"], "config": "SEED: 1\n"}


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.pth", WEIGHTS)
    with pytest.raises(OutputError, match=r"a\.pth"):
        write_checkpoint(tmp_path / "a.pth", {"model": torch.zeros(100_000)})
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
    assert read_checkpoint(tmp_path / "a.pth")["thing_classes"] == ["dot"]


@pytest.mark.parametrize("kept", [0, 1, 100, 900])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    path = save(tmp_path / "a.pth", age=1)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"a\.pth: truncated or no checkpoint"):
        read_checkpoint(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.pth: no such file"):
        read_checkpoint(tmp_path / "none.pth")


def test_a_file_without_a_dictionary_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="holds a list"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.pkl", "a.pth"])
def test_a_file_cannot_run_code(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "a.pkl":
        (tmp_path / name).write_bytes(pickle.dumps({"model": Evil()}))
    else:
        torch.save({"model": Evil()}, tmp_path / name)
    with pytest.raises(WeightsError, match=f"{name}: not loaded: it asks for (posix|nt).mkdir"):
        read_checkpoint(tmp_path / name)
    assert not (tmp_path / "made_by_a_pickle").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_are_read_from_a_pickle(tmp_path: Path, protocol: int) -> None:
    content = {"model": {"a": np.arange(3.0)}, "matching_heuristics": True, "n": np.float32(2)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol))
    found = read_checkpoint(tmp_path / "a.pkl")
    np.testing.assert_array_equal(found["model"]["a"], np.arange(3.0))
    assert found["matching_heuristics"] is True


def test_arrays_are_read_beside_tensors(tmp_path: Path) -> None:
    torch.save({"model": {"a": np.arange(3.0)}, "n": np.float64(2)}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth")["n"] == 2


def test_safetensors_are_read(tmp_path: Path) -> None:
    torch_files = pytest.importorskip("safetensors.torch")
    torch_files.save_file({"a": torch.arange(3.0)}, tmp_path / "a.safetensors")
    assert torch.equal(read_checkpoint(tmp_path / "a.safetensors")["a"], torch.arange(3.0))
    (tmp_path / "a.safetensors").write_bytes(b"\x10")
    with pytest.raises(WeightsError, match="truncated"):
        read_checkpoint(tmp_path / "a.safetensors")


def test_the_named_checkpoint_comes_first_and_newer_ones_never(tmp_path: Path) -> None:
    old = save(tmp_path / "model_0000009.pth", age=1)
    named = save(tmp_path / "model_0000004.pth", age=2)
    newer = save(tmp_path / "model_0000005.pth", age=3)
    assert resumable(tmp_path) == [newer, named, old]
    (tmp_path / "last_checkpoint").write_text("model_0000004.pth", encoding="utf-8")
    assert resumable(tmp_path) == [named, old]


@pytest.mark.parametrize("name", ["../other/model_0000009.pth", "/model_0000009.pth", ".."])
def test_a_last_checkpoint_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    save(tmp_path / "model_0000004.pth", age=1)
    (tmp_path / "last_checkpoint").write_text(name, encoding="utf-8")
    with pytest.raises(WeightsError, match="last_checkpoint: names the checkpoint"):
        resumable(tmp_path)


def make_binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00\x81")


def make_long(path: Path) -> None:
    path.write_text("a" * 5000, encoding="utf-8")


def make_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    "make", [make_binary, make_long, Path.mkdir, os.mkfifo, make_link_to_itself]
)
def test_a_last_checkpoint_that_is_no_text_file_is_named(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    save(tmp_path / "model_0000004.pth", age=1)
    make(tmp_path / "last_checkpoint")
    with pytest.raises(WeightsError, match=r"last_checkpoint: cannot be read .*; remove it"):
        resumable(tmp_path)


def test_only_regular_files_are_checkpoints(tmp_path: Path) -> None:
    good = save(tmp_path / "model_0000004.pth", age=1)
    os.mkfifo(tmp_path / "model_0000005.pth")
    make_link_to_itself(tmp_path / "model_0000006.pth")
    (tmp_path / "model_0000007.pth").mkdir()
    assert resumable(tmp_path) == [good]
    with pytest.raises(WeightsError, match=r"model_0000005\.pth: no such file"):
        read_checkpoint(tmp_path / "model_0000005.pth")


def test_a_truncated_checkpoint_is_not_the_last_one(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) == ""
    good = save(tmp_path / "model_0000004.pth", age=1)
    cut = save(tmp_path / "model_0000009.pth", age=2)
    assert last_checkpoint(tmp_path) == str(cut)
    cut.write_bytes(cut.read_bytes()[:200])
    assert last_checkpoint(tmp_path) == str(good)


def test_a_damaged_checkpoint_is_not_the_last_one(tmp_path: Path) -> None:
    good = save(tmp_path / "model_0000004.pth", age=1)
    bad = save(tmp_path / "model_0000009.pth", age=2)
    bad.write_bytes(bad.read_bytes().replace(b"SEED: 1", b"SEED: 3"))
    assert last_checkpoint(tmp_path) == str(good)
    with pytest.raises(WeightsError, match=r"model_0000009\.pth: damaged"):
        read_metadata(bad)


@pytest.mark.parametrize(
    "odd", [{"thing_classes": 3}, {"thing_classes": [1]}, {"config": ["SEED"]}, {"config": None}]
)
def test_metadata_of_other_types_are_refused(tmp_path: Path, odd: dict) -> None:
    write_checkpoint(tmp_path / "a.pth", {**WEIGHTS, **odd})
    with pytest.raises(WeightsError, match=r'a\.pth: "thing_classes" must be a list of names'):
        read_metadata(tmp_path / "a.pth")


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    computed = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        write_checkpoint(tmp_path / "a.pth", WEIGHTS)
    finally:
        torch.serialization.set_crc32_options(computed)
    assert read_checkpoint(tmp_path / "a.pth")["thing_classes"] == ["dot"]
