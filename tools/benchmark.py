#!/usr/bin/env python
"""Times d2ext's operators beside what people use today.

    python tools/benchmark.py ops --threads 2

One line a case: median time of a forward pass and of a forward and backward pass, how many times
that is faster than torchvision's, and the most memory that the latter took beyond its inputs
(Linux).
"""

import argparse
import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from d2ext.ops import EXTENSION_STATE, deform_conv2d, reference

SIZES = [  # batch, height, width: an 800x1216 image's finer levels, then those of the built-in set
    (1, 50, 76),
    (1, 100, 152),
    (8, 20, 20),
    (8, 10, 10),
    (8, 5, 5),
    (8, 2, 2),
]
CHANNELS = 256


def main() -> None:
    """Print the table that the arguments ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    ops = commands.add_parser("ops", help="operators")
    ops.add_argument("--threads", type=int, default=torch.get_num_threads())
    ops.add_argument("--repeats", type=int, default=5)
    ops.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(EXTENSION_STATE)
    print(f"deform_conv2d v2, {CHANNELS} to {CHANNELS}, 3x3, {args.dtype}, {args.threads} threads")
    for size in SIZES:
        compare(size, getattr(torch, args.dtype), args.repeats)


def compare(size: tuple[int, int, int], dtype: torch.dtype, repeats: int) -> None:
    """Print one line for each way to compute deformable convolutions of `size`."""
    inputs = problem(size, dtype)
    grad = torch.rand(size[0], CHANNELS, *size[1:]).to(dtype)
    rows = {name: measure(way, inputs, grad, repeats) for name, way in WAYS.items()}
    forward_peer, both_peer, _ = rows["torchvision"]
    for name, (forward, both, memory) in rows.items():
        print(
            f"{size!s:>14} {name:18} forward {forward:8.1f} ms {forward_peer / forward:6.1f}x   "
            f"with backward {both:8.1f} ms {both_peer / both:6.1f}x   {memory:6.0f} MiB",
            flush=True,
        )


def problem(size: tuple[int, int, int], dtype: torch.dtype) -> list[Tensor]:
    """Input, offset, weight, bias and mask."""
    batch, height, width = size
    torch.manual_seed(0)
    tensors = [
        torch.randn(batch, CHANNELS, height, width),
        torch.randn(batch, 18, height, width),
        torch.randn(CHANNELS, CHANNELS, 3, 3) / 50,
        torch.randn(CHANNELS),
        torch.rand(batch, 9, height, width),
    ]
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


def ours(input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """The operator as people call it."""
    return deform_conv2d(input, offset, weight, bias, padding=1, mask=mask)


class Reference(torch.autograd.Function):
    """What runs where the extension is missing."""

    geometry = [1, 1], [1, 1], [1, 1]

    @staticmethod
    def forward(ctx: Any, input: Tensor, offset: Tensor, weight: Tensor, *rest: Tensor) -> Tensor:
        bias, mask = rest
        ctx.save_for_backward(input, offset, weight, mask)
        return reference.deform_conv2d(input, offset, weight, bias, mask, *Reference.geometry)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        grads = reference.deform_conv2d_backward(grad, *ctx.saved_tensors, *Reference.geometry)
        return *grads[:3], grad.sum((0, 2, 3)), grads[3]


def torchvisions(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor
) -> Tensor:
    """The peer; on a CPU it computes in float32."""
    floats = (tensor.float() for tensor in (input, offset, weight, bias))
    return torchvision.ops.deform_conv2d(*floats, padding=1, mask=mask.float()).to(input.dtype)


def plain(input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """A convolution that is not deformable: as fast as it can get."""
    return F.conv2d(input, weight, bias, padding=1)


WAYS: dict[str, Callable[..., Tensor]] = {
    "d2ext": ours,
    "reference": Reference.apply,
    "torchvision": torchvisions,
    "plain convolution": plain,
}


def measure(
    way: Callable[..., Tensor], inputs: list[Tensor], grad: Tensor, repeats: int
) -> tuple[float, float, float]:
    """Milliseconds forward, milliseconds forward and backward, MiB at the most."""

    def forward() -> None:
        with torch.no_grad():
            way(*inputs)

    def both() -> None:
        torch.autograd.grad(way(*inputs), inputs, grad, allow_unused=True)

    return median_time(forward, repeats), median_time(both, repeats), peak_memory(both)


def median_time(function: Callable[[], None], repeats: int) -> float:
    """In milliseconds, after a call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def peak_memory(function: Callable[[], Any]) -> float:
    """MiB of memory that `function` takes beyond what is in use; nan where Linux doesn't tell."""
    if not Path("/proc/self/clear_refs").exists():
        return float("nan")
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _memory("VmRSS")
    function()
    return (_memory("VmHWM") - before) / 1024


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()
