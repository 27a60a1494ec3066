#!/usr/bin/env python
"""Times d2ext beside what people use today.

    python tools/benchmark.py ops --threads 2 [deform_conv2d ...]

For each problem one line a way to solve it: median time of a forward pass and of a forward and
backward pass, how many times faster that is than the peer's, and the most memory that it took
beyond its inputs (on CPUs under Linux only).
"""

import argparse
from collections.abc import Callable, Iterator

import torch

from benchmarks import deform_conv2d, ms_deform_attn, sigmoid_focal_loss
from benchmarks.measure import Problem, report
from d2ext.ops import EXTENSION_STATE

OPERATORS: dict[str, Callable[[torch.device, torch.dtype], Iterator[Problem]]] = {
    "deform_conv2d": deform_conv2d.problems,
    "ms_deform_attn": ms_deform_attn.problems,
    "sigmoid_focal_loss": sigmoid_focal_loss.problems,
}


def main() -> None:
    """Print the table that the arguments ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    ops = commands.add_parser("ops", help="operators")
    ops.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(OPERATORS)}")
    ops.add_argument("--threads", type=int, default=torch.get_num_threads())
    ops.add_argument("--repeats", type=int, default=5)
    ops.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    ops.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(OPERATORS))
    if unknown:
        parser.error(f"no operator {', '.join(unknown)}; there are {', '.join(OPERATORS)}")
    torch.set_num_threads(args.threads)
    where = f"{args.threads} threads" if args.device == "cpu" else torch.cuda.get_device_name()
    print(f"{EXTENSION_STATE}; PyTorch {torch.__version__}, {args.dtype}, {where}")
    for name in args.names or OPERATORS:
        for problem in OPERATORS[name](torch.device(args.device), getattr(torch, args.dtype)):
            report(problem, args.repeats)


if __name__ == "__main__":
    main()
