"""The fuzzer: its samples are sound, its inputs repeat, and what it looks for is reported."""

import os
import random
import shutil
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from d2ext.cli import check_data, convert_data
from d2ext.data.formats import load_splits
from tools import fuzz, fuzz_samples


def crash(pipe: Connection) -> None:
    pipe.recv()
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(pipe: Connection) -> None:
    pipe.recv()
    time.sleep(60)


def test_each_sample_is_read_as_it_is(tmp_path):
    samples = fuzz.write_samples(tmp_path)
    assert len(samples) >= 15
    for name in ("checkpoints", "operators", "results"):
        samples.pop(name)
    for path in samples.values():
        for split in load_splits(next(path.glob("*.zip"), path)).values():
            assert split.images
            assert split.num_annotations or split.annotates_pixels
            assert not split.issues or path.parent == fuzz_samples.SAMPLES or path.name == "archive"


@pytest.mark.parametrize("name", ["checkpoints", "results"])
def test_no_command_refuses_a_sound_sample(tmp_path, name):
    for command in fuzz.commands(fuzz.write_samples(tmp_path)[name]):
        assert command() != {}


def test_the_same_seed_gives_the_same_inputs(tmp_path):
    sample = fuzz.write_samples(tmp_path)["masks"]
    found = []
    for name in ("a", "b"):
        shutil.copytree(sample, tmp_path / name)
        chance = random.Random(3)
        for _ in range(20):
            fuzz.damage(tmp_path / name, chance)
        found.append([f.read_bytes() for f in sorted((tmp_path / name).rglob("*")) if f.is_file()])
    assert found[0] == found[1]
    assert found[0] != [f.read_bytes() for f in sorted(sample.rglob("*")) if f.is_file()]


@pytest.mark.parametrize(("target", "message"), [(crash, "ended with -11"), (hang, "more than 8")])
def test_signals_and_hangs_are_reported(tmp_path, target, message):
    worker = fuzz.Worker(target, seconds=8 if target is hang else 300, starting=0)
    assert message in worker.run(tmp_path)
    assert worker.process is None


def test_a_traceback_is_reported_and_an_error_for_the_user_is_not(tmp_path, monkeypatch):
    assert fuzz.run_commands(tmp_path) == ""  # an empty folder is no data set

    def broken(arguments: list[str]) -> None:
        raise ZeroDivisionError(arguments[0])

    monkeypatch.setattr(check_data, "main", broken)
    assert "ZeroDivisionError" in fuzz.run_commands(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(convert_data, "main", broken)
    assert "ZeroDivisionError" in fuzz.run_commands(Path(tmp_path))
