"""The parity command: one line for each output of a case, and whether all are the authors'."""

import argparse
import sys
from pathlib import Path

from d2ext.parity import run_case
from d2ext.parity.case import Comparison


def main() -> None:
    """Run the cases that the arguments name; exit status 1 if an output misses its tolerance."""
    misses = 0
    for folder in argument_parser().parse_args().folders:
        print(folder.name)
        comparisons = run_case(folder)
        for comparison in comparisons:
            print(describe(comparison), flush=True)
        missed = sum(not comparison.passed for comparison in comparisons)
        print(
            f"{folder.name}: {len(comparisons) - missed} of {len(comparisons)} within tolerance\n"
        )
        misses += missed
    sys.exit(1 if misses else 0)


def describe(comparison: Comparison) -> str:
    """One line: the verdict, the largest error over its tolerance, and the output."""
    verdict = "  ok  " if comparison.passed else "  MISS"
    if comparison.problem:
        return f"{verdict}         -  {comparison.key}: {comparison.problem}"
    return f"{verdict} {comparison.error:9.4f}  {comparison.key}"


def argument_parser() -> argparse.ArgumentParser:
    """The arguments of tools/parity.py."""
    parser = argparse.ArgumentParser(
        description="Compare our models with their authors' code: made-up weights in the published "
        "layout and made-up images go in, and every feature, output, detection, loss and gradient "
        "has to come out within the case's tolerance. Prints the largest error of each output as a "
        "share of it."
    )
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="a case: case.json, entries.json and golden.npz; those of the tests: tests/parity/*/",
    )
    return parser
