import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # ended meanwhile
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


INTERRUPTED = """
import time
from multiprocessing import Process
from d2ext.errors import Interrupted, exit_on_user_error
from d2ext.processes import shield_worker

def work():
    shield_worker()
    time.sleep(60)

def main():
    worker = Process(target=work, daemon=True)
    worker.start()
    time.sleep(1)
    raise Interrupted("saved", 15)

if __name__ == "__main__":
    exit_on_user_error(main)
"""


def test_a_command_that_was_asked_to_stop_does_not_wait_for_its_workers(tmp_path: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    start = time.monotonic()
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (143, "saved\n")
    assert time.monotonic() - start < 15  # workers outlive SIGTERM by 20 seconds


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["the parent", "one rank"])
def test_ranks_and_loader_workers_end_when_one_is_killed(tmp_path: Path, victim: str) -> None:
    command = [sys.executable, "-m", "tests.helpers.workers", str(tmp_path)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL) as parent:
        ready = [tmp_path / f"ready{rank}" for rank in range(2)]
        descendants: list[int] = []
        try:
            assert wait_for(lambda: all(path.exists() for path in ready), 240)
            first = children(parent.pid)
            descendants = first + [pid for child in first for pid in children(child)]
            ranks = [pid for pid in first if len(children(pid)) >= 2]
            assert len(ranks) == 2
            os.kill(parent.pid if victim == "the parent" else ranks[0], signal.SIGKILL)
            assert wait_for(lambda: not any(map(alive, [parent.pid, *descendants])), 30)
        finally:
            for pid in filter(alive, [parent.pid, *descendants]):
                os.kill(pid, signal.SIGKILL)
