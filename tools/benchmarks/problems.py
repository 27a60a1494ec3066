"""Sub-commands that compare operators and models with their peers, by `measure.Problem`s."""

import argparse
import itertools
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.measure import Problem, report
from benchmarks.registry import add_names_argument, register_benchmark
from d2ext.ops import EXTENSION_STATE

DTYPES = ("float32", "bfloat16", "float16")
MakeProblems = Callable[[torch.device, torch.dtype], Iterator[Problem]]
_GROUPS: dict[str, dict[str, MakeProblems]] = {"ops": {}, "models": {}}


def register_problems(group: str, name: str, make: MakeProblems) -> None:
    """Register problems to time as `tools/benchmark.py GROUP NAME`.

    Args:
        group: "ops" or "models".
        name: of an operator or of a kind of models.
        make: returns the problems for a device and a dtype, with the same random inputs each time.
    Raises:
        ValueError: the name is taken.
    """
    if name in _GROUPS[group]:
        raise ValueError(f"there already are problems {group} {name}: choose another name")
    _GROUPS[group][name] = make


def _add_arguments(group: str, parser: argparse.ArgumentParser) -> None:
    add_names_argument(parser, sorted(_GROUPS[group]))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5, help="timed calls; the median counts")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")


def _run(group: str, args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    where = f"{args.threads} threads" if args.device == "cpu" else torch.cuda.get_device_name()
    print(f"{EXTENSION_STATE}; PyTorch {torch.__version__}, {args.dtype}, {where}")
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    made = (_GROUPS[group][name](device, dtype) for name in args.names or sorted(_GROUPS[group]))
    report(itertools.chain.from_iterable(made), args.repeats)


for _group, _help in (
    ("ops", "time and memory of operators compared with their peers'"),
    ("models", "time and memory of detectors compared with their authors' way to compute"),
):
    register_benchmark(_group, _help, partial(_add_arguments, _group), partial(_run, _group))
