"""Timing one problem solved in several ways, side by side in one process."""

import contextlib
import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterator
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
class Costs:
    """Medians in milliseconds and memory in MiB; nan where there is none to tell.

    `memory` is the most that is held beyond the inputs, `scratch` that without the results: the
    output and, where there is a backward pass, the gradients.
    """

    forward: float
    both: float
    memory: float
    scratch: float


def report(problem: Problem, repeats: int) -> None:
    """Print one line for each way to solve `problem`."""
    wanted = [f"{goal:g}x {what}" for goal, what in zip(problem.goals, WHAT, strict=True) if goal]
    print(f"\n{problem.title}" + (f"  [goal: {', '.join(wanted)}]" if wanted else ""))
    peer = _outcome(problem, problem.peer, repeats)
    bar = peer if isinstance(peer, Costs) else Costs(*[float("nan")] * 4)
    for name in problem.ways:
        own = peer if name == problem.peer else _outcome(problem, name, repeats)
        if isinstance(own, str):
            print(f"  {name:24} does not run: {own}")
            continue
        line = f"  {name:24} forward {own.forward:9.2f} ms {_ratio(bar.forward, own.forward)}"
        if problem.leaves:
            line += f"   with backward {own.both:9.2f} ms {_ratio(bar.both, own.both)}"
        line += f"   {own.memory:7.0f} MiB {_ratio(bar.memory, own.memory)}"
        line += f"   {own.scratch:7.0f} of it scratch {_ratio(bar.scratch, own.scratch)}"
        print(line, flush=True)


def _ratio(peer: float, own: float) -> str:
    return f"{peer / own:6.1f}x" if peer == peer and own > 0 else ""


def _outcome(problem: Problem, way: str, repeats: int) -> Costs | str:
    """The costs, or why there are none."""
    try:
        return measure(problem, way, repeats)
    except (RuntimeError, ImportError) as error:
        return str(error).splitlines()[0]


def measure(problem: Problem, way: str, repeats: int) -> Costs:
    """Time one way, forward alone and with its backward pass if there is one."""
    function, device = problem.ways[way], _device(problem)

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [function(*problem.inputs)]

    def both() -> list[Tensor]:
        output = function(*problem.inputs)
        grads = torch.autograd.grad(output, problem.leaves, grad, allow_unused=True)
        return [output, *(tensor for tensor in grads if tensor is not None)]

    if not problem.leaves:
        time_forward = median_time(forward, repeats, device)
        return Costs(time_forward, float("nan"), *peak_memory(forward, device))
    grad = torch.ones_like(function(*problem.inputs))
    times = median_time(forward, repeats, device), median_time(both, repeats, device)
    return Costs(*times, *peak_memory(both, device))


def median_time(function: Callable[[], Any], repeats: int, device: torch.device) -> float:
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


def peak_memory(function: Callable[[], list[Tensor]], device: torch.device) -> tuple[float, float]:
    """MiB that `function` takes beyond what is in use, and without what it returns.

    Both are nan where the system doesn't tell.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        results = _size(function())
        peak = (torch.cuda.max_memory_allocated(device) - before) / 2**20
        return peak, peak - results
    if not Path("/proc/self/clear_refs").exists():
        return float("nan"), float("nan")
    with _freed_at_once():
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        resident = _memory("VmRSS")
        results = _size(function())
        peak = (_memory("VmHWM") - resident) / 1024
    return peak, peak - results


@contextlib.contextmanager
def _freed_at_once() -> Iterator[None]:
    """Nothing freed is kept for later, which would depend on what ran before; glibc's malloc."""
    libc = ctypes.CDLL(None)
    trim, map_from = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    libc.mallopt(map_from, 1 << 16)
    libc.malloc_trim(0)
    try:
        yield
    finally:  # as large as they get by themselves
        libc.mallopt(map_from, 1 << 25)
        libc.mallopt(trim, 1 << 26)


def _size(tensors: list[Tensor]) -> float:
    """MiB of distinct tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 2**20


def _device(problem: Problem) -> torch.device:
    tensors = (value for value in problem.inputs if isinstance(value, Tensor))
    return next(tensors).device


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
