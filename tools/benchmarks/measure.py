"""Timing one problem solved in several ways, side by side in one process."""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WHAT = ("forward", "with backward")


@dataclass
class Problem:
    """One line a way is printed for it.

    Args:
        title: what is computed, with sizes.
        inputs: arguments of every way.
        ways: functions of `inputs` by name; one that raises is reported, not fatal.
        peer: the way that the others are compared with.
        goals: least ratio to the peer of our way, forward alone and with backward.
        leaves: what gradients are taken of; by default the inputs that require them.
    """

    title: str
    inputs: list[Any]
    ways: dict[str, Callable[..., Tensor]]
    peer: str
    goals: tuple[float | None, float | None] = (None, None)
    leaves: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        tensors = [value for value in self.inputs if isinstance(value, Tensor)]
        self.leaves = self.leaves or [tensor for tensor in tensors if tensor.requires_grad]


@dataclass
class Times:
    """Medians in milliseconds and the most memory in MiB; nan where there is none to tell."""

    forward: float
    both: float
    memory: float


def report(problem: Problem, repeats: int) -> None:
    """Print one line for each way to solve `problem`."""
    wanted = [f"{goal:g}x {what}" for goal, what in zip(problem.goals, WHAT, strict=True) if goal]
    print(f"\n{problem.title}" + (f"  [goal: {', '.join(wanted)}]" if wanted else ""))
    peer = _outcome(problem, problem.peer, repeats)
    bar = peer if isinstance(peer, Times) else Times(*[float("nan")] * 3)
    for name in problem.ways:
        own = peer if name == problem.peer else _outcome(problem, name, repeats)
        if isinstance(own, str):
            print(f"  {name:24} does not run: {own}")
            continue
        line = f"  {name:24} forward {own.forward:9.2f} ms {_ratio(bar.forward, own.forward)}"
        if problem.leaves:
            line += f"   with backward {own.both:9.2f} ms {_ratio(bar.both, own.both)}"
        print(f"{line}   {own.memory:7.0f} MiB", flush=True)


def _ratio(peer: float, own: float) -> str:
    return f"{peer / own:6.1f}x" if peer == peer else ""


def _outcome(problem: Problem, way: str, repeats: int) -> Times | str:
    """The times, or why there are none."""
    try:
        return measure(problem, way, repeats)
    except (RuntimeError, ImportError) as error:
        return str(error).splitlines()[0]


def measure(problem: Problem, way: str, repeats: int) -> Times:
    """Time one way, forward alone and with its backward pass if there is one."""
    function, device = problem.ways[way], _device(problem)

    def forward() -> None:
        with torch.no_grad():
            function(*problem.inputs)

    def both() -> None:
        output = function(*problem.inputs)
        torch.autograd.grad(output, problem.leaves, grad, allow_unused=True)

    if not problem.leaves:
        time_forward = median_time(forward, repeats, device)
        return Times(time_forward, float("nan"), peak_memory(forward, device))
    grad = torch.ones_like(function(*problem.inputs))
    times = median_time(forward, repeats, device), median_time(both, repeats, device)
    return Times(*times, peak_memory(both, device))


def median_time(function: Callable[[], None], repeats: int, device: torch.device) -> float:
    """In milliseconds, after a call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        _wait(device)
        start = time.perf_counter()
        function()
        _wait(device)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def peak_memory(function: Callable[[], Any], device: torch.device) -> float:
    """MiB that `function` takes beyond what is in use; nan where the system doesn't tell."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if not Path("/proc/self/clear_refs").exists():
        return float("nan")
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    resident = _memory("VmRSS")
    function()
    return (_memory("VmHWM") - resident) / 1024


def _device(problem: Problem) -> torch.device:
    tensors = (value for value in problem.inputs if isinstance(value, Tensor))
    return next(tensors).device


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
