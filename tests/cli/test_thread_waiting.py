"""What the commands set before PyTorch is imported."""

import os
import subprocess
import sys

import pytest

from d2ext.cli import thread_waiting
from d2ext.cli.thread_waiting import busy_threads, set_thread_waiting

NAMES = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that makes the kernel count so many runnable threads."""
    monkeypatch.setattr(thread_waiting, "_LOAD", tmp_path / "loadavg")
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what the test sets is undone
        monkeypatch.delenv(name)

    def write(runnable: int) -> None:
        (tmp_path / "loadavg").write_text(f"0.20 0.18 0.12 {runnable}/80 11206\n")

    return write


def test_threads_sleep_where_other_programs_keep_the_cores_busy(load):
    load(2 + (os.cpu_count() or 1))
    set_thread_waiting()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_threads_spin_on_idle_cores_and_where_nothing_is_known(load):
    set_thread_waiting()  # there is no file
    assert busy_threads() == 0
    load(1)  # this one
    set_thread_waiting()
    assert "OMP_WAIT_POLICY" not in os.environ


@pytest.mark.parametrize("name", NAMES)
def test_what_the_user_has_set_stays(load, monkeypatch, name):
    load(1000)
    monkeypatch.setenv(name, "9")
    set_thread_waiting()
    assert {key: os.environ[key] for key in NAMES if key in os.environ} == {name: "9"}


def test_the_commands_choose_before_pytorch_is_imported():
    code = (
        "import sys, d2ext.cli.thread_waiting as waiting; waiting.set_thread_waiting = lambda: "
        "print('torch' in sys.modules); import d2ext.cli.entry_points"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
