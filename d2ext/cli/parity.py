"""The parity command: compare models with the outputs of their authors' code."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from d2ext.cli.parser import CommandParser

if TYPE_CHECKING:
    from d2ext.parity.case import Comparison

EXAMPLES = """\
example:
  {parity} tests/parity/*/

For generated weights in the published layout and generated images, every feature, output,
detection, loss and gradient must be within the case's tolerance. The largest error of each output
is printed, divided by its tolerance.
"""


def main() -> None:
    """Run the cases of the arguments; exit with status 1 if an output exceeds its tolerance."""
    folders = argument_parser().parse_args().folders
    # Imported once the arguments are known: --help and typing errors need no PyTorch.
    from d2ext.parity import run_case

    misses = 0
    for folder in folders:
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


def describe(comparison: "Comparison") -> str:
    """Format a line: verdict, largest error divided by the tolerance, and name of the output."""
    verdict = "  ok  " if comparison.passed else "  MISS"
    if comparison.problem:
        return f"{verdict}         -  {comparison.key}: {comparison.problem}"
    return f"{verdict} {comparison.error:9.4f}  {comparison.key}"


def argument_parser() -> CommandParser:
    """Build the argument parser of tools/parity.py."""
    description = "Compare d2ext's models with their authors' code."
    parser = CommandParser("parity", description, EXAMPLES)
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="a case: case.json, golden.npz and, unless it is one of a data set, entries.json; "
        "e.g. tests/parity/*/",
    )
    return parser
