"""Calls on many files in worker processes."""

import os
import signal

import pytest

from d2ext.data import parallel
from d2ext.errors import DataError


def killed(name: str) -> str:
    if name == "50":
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
    return name


def test_a_killed_worker_is_one_message(monkeypatch):
    monkeypatch.setattr(parallel, "_available_cores", lambda: 2)
    with pytest.raises(DataError, match="a process that reads images was killed"):
        parallel.map_files(killed, [str(n) for n in range(100)])
    assert parallel.map_files(str.upper, [f"a{n}" for n in range(100)])["a5"] == "A5"
