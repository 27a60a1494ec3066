"""How OpenMP's threads wait for each other, on machines that other programs use as well."""

import os
import statistics
import time
from pathlib import Path

_LOAD = Path("/proc/loadavg")
_LOOKS, _PAUSE_SECONDS = 5, 0.005


def set_thread_waiting() -> None:
    """Let OpenMP's threads sleep while they wait, if other programs keep the cores busy.

    By default they spin. Beside other programs, a thread that spins keeps the one that it waits
    for from running: a training step took 4 times as long. On idle cores, threads that sleep made
    it take 25 % longer. Nothing changes what the user has set. libgomp, which PyTorch's wheels for
    Linux bring, reads the variable when PyTorch is imported, so call this before.
    """
    chosen = "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ
    if not chosen and busy_threads() > 0.25 * (os.cpu_count() or 1):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def busy_threads() -> float:
    """Return the number of other threads that run or could run now; 0 where Linux does not say."""
    counts = []
    for _ in range(_LOOKS):
        try:
            # "0.20 0.18 0.12 1/80 11206": the fourth field counts runnable threads, ours included.
            counts.append(int(_LOAD.read_text(encoding="ascii").split()[3].partition("/")[0]) - 1)
        except (OSError, ValueError, IndexError):
            return 0.0
        time.sleep(_PAUSE_SECONDS)
    return float(statistics.median(counts))
