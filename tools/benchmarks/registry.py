"""The registry of benchmarks: the sub-commands of `tools/benchmark.py`."""

import argparse
import importlib
import pkgutil
from collections.abc import Callable, Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Benchmark:
    """A sub-command of `tools/benchmark.py`, see `register_benchmark`."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


_BENCHMARKS: dict[str, Benchmark] = {}


def register_benchmark(
    name: str,
    help: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], None],
) -> None:
    """Register the sub-command `name` of `tools/benchmark.py`.

    To add a benchmark, also one of a project, put one file into `tools/benchmarks/` that calls this
    at its end: every module of that folder is imported. A comparison of operators or models that
    fits `measure.Problem` calls `problems.register_problems` instead and gets its table for free.

    Args:
        name: the sub-command.
        help: one line for `--help`.
        add_arguments: adds the sub-command's own arguments to its parser.
        run: takes the parsed arguments, measures and prints: a title line with the problem's sizes
            and, if there is one, the goal, then one indented line per way to solve it.
    Raises:
        ValueError: the name is taken.
    """
    if name in _BENCHMARKS:
        raise ValueError(f"there already is a benchmark {name}: choose another name")
    _BENCHMARKS[name] = Benchmark(help, add_arguments, run)


def load_benchmarks() -> dict[str, Benchmark]:
    """Import all modules of this package and return the benchmarks they register, by name."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")
    return dict(sorted(_BENCHMARKS.items()))


def add_names_argument(parser: argparse.ArgumentParser, names: Collection[str]) -> None:
    """Add the positional argument `names`: any number of `names`, empty for all of them."""

    def known(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(names)}")
        return name

    # Not by `choices`, which older Pythons also check against the empty default.
    shown = f"all if none is named: {', '.join(names)}"
    parser.add_argument("names", nargs="*", type=known, metavar="NAME", help=shown)
