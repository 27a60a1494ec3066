import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import d2ext
from d2ext.engine.hooks.metrics import CLOCK

OPTIONS = ("SOLVER.EMA.ENABLED", "True", "SOLVER.ACCUMULATE", "2", "TEST.VAL_LOSS", "True")
OPTIONS += ("SOLVER.OPTIMIZER", "ADAMW", "SOLVER.CLIP_GRADIENTS.ENABLED", "True")
OPTIONS += ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model", "TEST.PATIENCE", "9")


def train(folder: Path, *arguments: str) -> int:
    """The exit code of a training in its own process."""
    paths = [str(Path(d2ext.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "tests.helpers.training", str(folder), *arguments, *OPTIONS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "out" / "metrics.json").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in rows]


def state(folder: Path, name: str) -> dict[str, Any]:
    found = torch.load(folder / "out" / name, weights_only=True)
    found.pop("config")
    return found


def assert_same(left: Any, right: Any) -> None:
    """Equal to the last bit."""
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_same(a, b)
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    else:
        assert left == right


@pytest.mark.slow
def test_a_training_killed_three_times_ends_as_one_that_ran_through(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train(whole) == 0
    assert train(killed, "--die", "step", "9") != 0
    assert train(killed, "--resume", "--die", "save", "11") != 0
    assert train(killed, "--resume", "--die", "evaluate", "17") != 0
    assert train(killed, "--resume") == 0
    assert metrics(killed) == metrics(whole)
    for name in ("model_0000019.pth", "model_best.pth", "model_final.pth"):
        assert_same(state(killed, name), state(whole, name))
    assert sorted(p.name for p in (killed / "out").glob("*.pth")) == sorted(
        p.name for p in (whole / "out").glob("*.pth")
    )
