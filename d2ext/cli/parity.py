"""The parity command: compare models with the outputs of their authors' code."""

import argparse
import sys
from pathlib import Path

from d2ext.parity import run_case
from d2ext.parity.case import Comparison


def main() -> None:
    """Run the cases of the arguments; exit with status 1 if an output exceeds its tolerance."""
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
    """Format a line: verdict, largest error divided by the tolerance, and name of the output."""
    verdict = "  ok  " if comparison.passed else "  MISS"
    if comparison.problem:
        return f"{verdict}         -  {comparison.key}: {comparison.problem}"
    return f"{verdict} {comparison.error:9.4f}  {comparison.key}"


def argument_parser() -> argparse.ArgumentParser:
    """Build the argument parser of tools/parity.py."""
    parser = argparse.ArgumentParser(
        description="Compare d2ext's models with their authors' code. For generated weights in the "
        "published layout and generated images, every feature, output, detection, loss and "
        "gradient must be within the case's tolerance. Prints the largest error of each output "
        "divided by its tolerance."
    )
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="a case: case.json, golden.npz and, unless it is one of a data set, entries.json; "
        "e.g. tests/parity/*/",
    )
    return parser
