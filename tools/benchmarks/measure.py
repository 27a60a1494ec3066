"""Time and peak memory of one problem solved in several ways, side by side in one process."""

import contextlib
import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_RESET = Path("/proc/self/clear_refs")  # Linux only; writing 5 resets the peak of resident memory
PASSES = ("forward", "with backward")
Memory = tuple[float, float] | str  # what `peak_memory` returns, or why the way does not run


@dataclass
class Problem:
    """A computation to time; one line per way is printed for it.

    Args:
        title: what is computed, with sizes.
        inputs: arguments of every way.
        ways: functions of `inputs` by name; one that raises is reported and skipped.
        peer: name of the way that the others are compared with.
        goals: least ratio of our way to the peer, forward alone and with backward; only printed.
        leaves: tensors to differentiate with respect to; by default the inputs that require it.
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
    """Median times in milliseconds and memory in MiB; NaN where it was not measured.

    Attributes:
        forward: the forward pass alone, without recording gradients.
        both: forward and backward pass.
        memory: peak beyond the inputs.
        scratch: the same without the results, which are the output and the gradients.
    """

    forward: float
    both: float
    memory: float
    scratch: float


def report(problems: Iterable[Problem], repeats: int) -> None:
    """Print the costs of each way to solve each of `problems`."""
    problems = list(problems)
    with _freed_at_once():  # before anything is timed, since a used heap hides allocations
        memory = [_memory_of(problem) for problem in problems]
    for problem, taken in zip(problems, memory, strict=True):
        _report(problem, taken, repeats)


def _report(problem: Problem, memory: dict[str, Memory], repeats: int) -> None:
    wanted = [f"{goal:g}x {what}" for goal, what in zip(problem.goals, PASSES, strict=True) if goal]
    print(f"\n{problem.title}" + (f"  [goal: {', '.join(wanted)}]" if wanted else ""))
    costs = _costs(problem, memory, repeats)
    peer = costs[problem.peer]
    bar = peer if isinstance(peer, Costs) else Costs(*[float("nan")] * 4)
    for name, own in costs.items():
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
    return f"{peer / own:6.1f}x" if peer == peer and own > 0 else ""  # NaN is no number to compare


def _memory_of(problem: Problem) -> dict[str, Memory]:
    """Return the memory of each way after a warm-up call, or why the way does not run."""
    found: dict[str, Memory] = {}
    device = _device(problem)
    for name in problem.ways:
        try:
            run = _runs(problem, name)[-1]
            run()
            found[name] = peak_memory(run, device)
        except (RuntimeError, ImportError) as error:
            found[name] = str(error).splitlines()[0]
    return found


def _costs(problem: Problem, memory: dict[str, Memory], repeats: int) -> dict[str, Costs | str]:
    """Time all ways, forward alone and with the backward pass if there is one.

    The heap keeps what a backward pass frees, and what runs later has no page faults. So no
    forward pass is timed after a backward pass, neither of its own way nor of another.
    """
    ran = [name for name, taken in memory.items() if not isinstance(taken, str)]
    runs = {name: _runs(problem, name) for name in ran}
    times = [
        {name: median_time(runs[name][number], repeats, _device(problem)) for name in ran}
        for number in range(2 if problem.leaves else 1)
    ]
    both = times[1] if problem.leaves else dict.fromkeys(ran, float("nan"))
    return {
        name: taken if isinstance(taken, str) else Costs(times[0][name], both[name], *taken)
        for name, taken in memory.items()
    }


def _runs(problem: Problem, way: str) -> list[Callable[[], list[Tensor]]]:
    """Return functions that run a way: forward alone and, if it has leaves, with backward."""
    function = problem.ways[way]

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [function(*problem.inputs)]

    def both() -> list[Tensor]:
        output = function(*problem.inputs)
        ones = torch.ones_like(output)
        grads = torch.autograd.grad(output, problem.leaves, ones, allow_unused=True)
        return [output, *(tensor for tensor in grads if tensor is not None)]

    return [forward, both] if problem.leaves else [forward]


def median_time(function: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """Return the median time of `function` in milliseconds, after a warm-up call."""
    function()
    times = []
    for _ in range(repeats):
        _wait(device)  # kernels are launched asynchronously
        start = time.perf_counter()
        function()
        _wait(device)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def peak_memory(function: Callable[[], list[Tensor]], device: torch.device) -> tuple[float, float]:
    """Return the peak memory of `function` in MiB beyond what is in use, with and without results.

    Both are NaN on CPUs of systems other than Linux.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        results = _size(function())
        peak = (torch.cuda.max_memory_allocated(device) - before) / 2**20
        return peak, peak - results
    if not _RESET.exists():
        return float("nan"), float("nan")
    _RESET.write_text("5")
    resident = _memory("VmRSS")
    results = _size(function())
    peak = (_memory("VmHWM") - resident) / 1024
    return peak, peak - results


@contextlib.contextmanager
def _freed_at_once() -> Iterator[None]:
    """Make glibc's malloc return freed memory at once.

    Otherwise it keeps blocks for later, and peaks depend on what ran before.
    """
    if not _RESET.exists():
        yield
        return
    libc = ctypes.CDLL(None)
    trim, map_from = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    libc.mallopt(map_from, 1 << 16)
    libc.malloc_trim(0)
    try:
        yield
    finally:  # the largest values that glibc's own adaptation reaches
        libc.mallopt(map_from, 1 << 25)
        libc.mallopt(trim, 1 << 26)


def _size(tensors: list[Tensor]) -> float:
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
